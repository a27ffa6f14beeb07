"""Entering programs that know nothing of unspool: whatever their environment, they run as they would without it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from capture_harness import SOURCES, Result, environment, recordings, run, run_code

MSGSPEC = importlib.util.find_spec("msgspec")
assert MSGSPEC is not None
assert MSGSPEC.origin is not None
MSGSPEC_FOLDER = Path(MSGSPEC.origin).parent.parent
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
CHILD = "import os; os.mkdir('seen'); print('hello')"


def old_or_new(*versions: str) -> list[object]:
    """Interpreters of other versions on this machine, skipped with a reason where there is none."""
    found = []
    for version in versions:
        paths = [path for path in PYENV.glob(f"{version}.*/bin/python") if path.exists()] if PYENV.is_dir() else []
        named = shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
        path = str(paths[0]) if paths else named
        reason = None if path else f"no Python {version} on this machine"
        if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
            reason = f"Python {version} is the one that runs the tests"
        marks = [pytest.mark.skip(reason=reason)] if reason else []
        found.append(pytest.param(path, id=version, marks=marks))
    return found


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The Python of a virtual environment with nothing in it."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def start(python: Path | str, code: str, tmp_path: Path, **env: str) -> Result:
    script = tmp_path / "agent.py"
    script.write_text(code)
    variables = environment(tmp_path / "store", UNSPOOL_MSGSPEC=str(MSGSPEC_FOLDER), **env)
    return run([python, script], variables, cwd=tmp_path)


class TestOtherEnvironments:
    def test_without_unspool_and_msgspec(self, bare: Path, tmp_path: Path) -> None:
        code = """
import importlib.util, sys, unspool
@unspool.tool
def add(a, b): return a + b
print(add(1, 2), importlib.util.find_spec("pytest"), sys.prefix)
"""
        result = start(bare, code, tmp_path)
        assert result.stderr == b""
        # Nothing else of our environment shows.
        assert result.lines == [f"3 None {bare.parent.parent}"]
        [recording] = recordings(tmp_path / "store")
        assert len(recording.syscalls("ToolCall")) == 1

    def test_its_own_msgspec_wins(self, bare: Path, tmp_path: Path) -> None:
        site = next((bare.parent.parent / "lib").glob("python3.*")) / "site-packages"
        shutil.copytree(MSGSPEC_FOLDER / "msgspec", site / "msgspec")
        result = start(bare, "import msgspec; print(msgspec.__file__)", tmp_path)
        assert result.lines == [str(site / "msgspec" / "__init__.py")]
        assert len(recordings(tmp_path / "store")) == 1

    def test_its_own_unspool_wins(self, bare: Path, tmp_path: Path) -> None:
        site = next((bare.parent.parent / "lib").glob("python3.*")) / "site-packages"
        shutil.copytree(SOURCES / "unspool", site / "unspool", ignore=shutil.ignore_patterns("__pycache__"))
        result = start(bare, "import unspool; print(unspool.__file__)", tmp_path)
        assert (result.lines, result.stderr) == ([str(site / "unspool" / "__init__.py")], b"")
        assert len(recordings(tmp_path / "store")) == 1

    @pytest.mark.parametrize("python", old_or_new("3.12", "3.13", "3.14"))
    def test_a_msgspec_of_another_version_says_what_to_install(self, python: str, tmp_path: Path) -> None:
        code = """
try:
    import msgspec
except ImportError as error:
    print(error)
"""
        result = start(python, code, tmp_path)
        assert result.lines == ["No module named 'msgspec'"]
        [line] = result.stderr.decode().splitlines()
        assert line.startswith("unspool: ")
        assert line.endswith("-m pip install msgspec")
        assert not (tmp_path / "store").exists()

    @pytest.mark.parametrize("python", old_or_new("2.7", "3.6", "3.8", "3.9", "3.10"))
    def test_old_pythons_run_unrecorded(self, python: str, tmp_path: Path) -> None:
        own = tmp_path / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text("import sys; sys.theirs = 'ran'")
        code = "import sys; sys.stdout.write('ran on %s %s' % (sys.version_info[0], sys.theirs))"
        script = tmp_path / "agent.py"
        script.write_text(code)
        # Python 2 writes its bytecode beside the source.
        env = environment(tmp_path / "store", PYTHONDONTWRITEBYTECODE="1")
        env["PYTHONPATH"] += os.pathsep + str(own)
        result = run([python, script], env)
        assert result.stdout.startswith(b"ran on ")
        assert result.stdout.endswith(b" ran")
        [line] = result.stderr.decode().splitlines()
        assert line.startswith("unspool: ")
        assert "needs 3.11 or newer" in line
        assert result.code == 0


class TestWhatWasThereStays:
    def test_sitecustomize_and_usercustomize(self, tmp_path: Path) -> None:
        own = tmp_path / "own"
        user = tmp_path / "user" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        own.mkdir()
        user.mkdir(parents=True)
        (own / "sitecustomize.py").write_text("import sys; sys.site_ran = __file__")
        (user / "usercustomize.py").write_text("import sys; sys.user_ran = __file__")
        code = "import sys, sitecustomize; print(sys.site_ran, sitecustomize.__file__, getattr(sys, 'user_ran', None))"
        script = tmp_path / "agent.py"
        script.write_text(code)
        python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        outputs = []
        for store in (None, tmp_path / "store"):
            env = environment(store, PYTHONUSERBASE=str(tmp_path / "user"), UNSPOOL_MSGSPEC=str(MSGSPEC_FOLDER))
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(own)]))
            outputs.append(run([python, script], env))
        assert outputs[0] == outputs[1]
        assert str(user / "usercustomize.py") in outputs[1].lines[0]
        assert len(recordings(tmp_path / "store")) == 1

    def test_a_sitecustomize_that_fails_is_reported_as_ever(self, tmp_path: Path) -> None:
        own = tmp_path / "own"
        own.mkdir()
        (own / "sitecustomize.py").write_text("raise RuntimeError('mine')")
        outputs = []
        for store in (None, tmp_path / "store"):
            env = environment(store)
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(own)]))
            outputs.append(run([sys.executable, "-c", "print('ran')"], env))
        assert outputs[0] == outputs[1]
        assert b"mine" in outputs[1].stderr

    def test_tracers_are_left_alone(self, tmp_path: Path) -> None:
        code = """
import sys, threading
print(sys.gettrace(), sys.getprofile(), threading._trace_hook, threading._profile_hook)
if hasattr(sys, "monitoring"):
    print([sys.monitoring.get_tool(n) for n in range(6)])
seen = []
sys.settrace(lambda frame, event, arg: seen.append(event))
(lambda: None)()
sys.settrace(None)
print(seen)
"""
        assert run_code(code, tmp_path / "store", tmp_path) == run_code(code, None, tmp_path)

    def test_coverage(self, tmp_path: Path) -> None:
        pytest.importorskip("coverage")
        script = tmp_path / "agent.py"
        script.write_text("import subprocess, sys\nif len(sys.argv) > 5:\n    print('never')\nprint('ran')\n")
        reports = []
        for store in (None, tmp_path / "store"):
            env = environment(store)
            result = run([sys.executable, "-m", "coverage", "run", "--include", script, script], env, cwd=tmp_path)
            assert (result.stdout, result.stderr, result.code) == (b"ran\n", b"", 0)
            done = run([sys.executable, "-m", "coverage", "json", "-o", "-", "-q"], environment(None), cwd=tmp_path)
            reports.append(next(iter(json.loads(done.stdout)["files"].values()))["executed_lines"])
        assert reports[0] == reports[1] == [1, 2, 4]
        [recording] = recordings(tmp_path / "store")
        assert recording.metadata.command is not None
        assert "coverage" in recording.metadata.command

    def test_debugpy(self, tmp_path: Path) -> None:
        pytest.importorskip("debugpy")
        code = "import debugpy, sys; print(debugpy.is_client_connected(), sys.gettrace())"
        result = run_code(code, tmp_path / "store", tmp_path)
        assert (result.lines, result.code) == (["False None"], 0)

    def test_pythonpath(self, tmp_path: Path) -> None:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "helper.py").write_text("WORD = 'helped'")
        script = tmp_path / "agent.py"
        script.write_text("import helper, os; print(helper.WORD, os.environ['PYTHONPATH'].split(os.pathsep)[-1])")
        env = environment(tmp_path / "store")
        env["PYTHONPATH"] += os.pathsep + str(tmp_path / "lib")
        assert run([sys.executable, script], env).lines == [f"helped {tmp_path / 'lib'}"]

    def test_a_module_named_like_one_of_the_standard_library(self, tmp_path: Path) -> None:
        """Beside the script it comes first, even where unspool has loaded the other one."""
        names = ["secrets", "socket", "json", "queue", "uuid", "tempfile", "base64", "string"]
        for name in names:
            (tmp_path / f"{name}.py").write_text(f"WORD = 'my own {name}'")
        code = "".join(f"import {name}\nprint({name}.WORD)\n" for name in names)
        plain, recorded = run_code(code, None, tmp_path), run_code(code, tmp_path / "store", tmp_path)
        assert plain == recorded
        assert plain.code == 0
        by_module = run([sys.executable, "-m", "agent"], environment(tmp_path / "store2"), cwd=tmp_path)
        assert (by_module.lines, by_module.code) == (plain.lines, 0)

    def test_time_zones_warnings_and_optimisation(self, tmp_path: Path) -> None:
        code = "import sys, warnings; print(sys.flags, sys.warnoptions, warnings.filters)"
        (tmp_path / "agent.py").write_text(code)
        argv = [sys.executable, "-X", "dev", "-O", "-W", "error::UserWarning", tmp_path / "agent.py"]
        plain, recorded = run(argv, environment(None)), run(argv, environment(tmp_path / "store"))
        assert plain == recorded


class TestWaysToStart:
    @pytest.mark.parametrize("way", ["module", "code", "stdin", "shebang", "shell"])
    def test_each_is_recorded(self, way: str, tmp_path: Path) -> None:
        package = tmp_path / "pkg"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text("print('ran')")
        script = tmp_path / "script"
        script.write_text(f"#!{sys.executable}\nprint('ran')\n")
        script.chmod(0o755)
        argv = {
            "module": [sys.executable, "-m", "pkg"],
            "code": [sys.executable, "-c", "print('ran')"],
            "stdin": ["bash", "-c", f"echo \"print('ran')\" | {sys.executable} -"],
            "shebang": [str(script)],
            "shell": ["bash", "-c", f"cd {tmp_path} && exec {script}"],
        }[way]
        result = run(argv, environment(tmp_path / "store"), cwd=tmp_path)
        assert (result.lines, result.stderr, result.code) == (["ran"], b"", 0)
        [recording] = recordings(tmp_path / "store")
        assert (recording.metadata.role, recording.metadata.status) == ("agent", "completed")
        assert recording.metadata.cwd == str(tmp_path)

    def test_children_that_keep_us_out_are_listed(self, tmp_path: Path) -> None:
        code = """
import subprocess, sys
for flags in (["-I"], ["-E"], ["-S"], ["-sE"], [], ["-W", "ignore"], ["-mthis"]):
    words = [] if flags == ["-mthis"] else ["-c", "import time; time.time()"]
    subprocess.run([sys.executable, *flags, *words], stdout=subprocess.DEVNULL)
"""
        result = run_code(code, tmp_path / "store", tmp_path)
        assert (result.stderr, result.code) == (b"", 0)
        root = recordings(tmp_path / "store")[0]
        told = [event.syscall.args["captured"] for event in root.syscalls("Exec") if event.syscall is not None]
        assert told == [False, False, False, False, True, True, True]

    @pytest.mark.parametrize("how", ["run", "asyncio", "execve", "posix_spawn"])
    def test_a_replaced_environment_still_carries_ours(self, how: str, tmp_path: Path) -> None:
        (tmp_path / "child.py").write_text(
            "import unspool\n@unspool.tool\ndef f(): return 1\nf()\nimport os\nprint(sorted(k for k in os.environ if "
            "not k.startswith('UNSPOOL')))"
        )
        call = {
            "run": "subprocess.run(argv, env={'A': '1'}, check=True)",
            "asyncio": "asyncio.run(started())",
            "execve": "os.execve(argv[0], argv, {'A': '1'})",
            "posix_spawn": "os.waitpid(os.posix_spawn(argv[0], argv, {b'A': b'1'}), 0)",
        }[how]
        code = f"""
import asyncio, os, subprocess, sys
argv = [sys.executable, "child.py"]
async def started():
    child = await asyncio.create_subprocess_exec(*argv, env={{"A": "1"}})
    await child.wait()
{call}
"""
        result = run_code(code, tmp_path / "store", tmp_path)
        assert result.stderr == b""
        assert result.code == 0
        names = ["A", *(["LC_CTYPE"] if "LC_CTYPE" in result.lines[0] else []), "PYTHONPATH", "TRACEPARENT"]
        assert result.lines == [str(names)]
        root, child = recordings(tmp_path / "store")
        assert len(child.syscalls("ToolCall")) == 1
        assert child.metadata.parent == root.metadata.record_id
        assert root.metadata.status == "completed"

    def test_nothing_is_printed(self, tmp_path: Path) -> None:
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'])"
        assert run_code(code, tmp_path / "store", tmp_path) == (0, b"", b"")
