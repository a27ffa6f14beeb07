"""`unspool run`: the command keeps its streams, signals and exit code; what is recorded is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from unspool.cli.launch import Launch
from unspool.store import Store

CLOSING = re.compile(
    r"unspool: recorded (\d+)-\S+: 0 model calls, 1 tool call in \d+\.\ds\. Next: unspool replay \1( --store \S+)?\n"
)
TOOL = "import unspool; unspool.tool(lambda: 1)()"


def python(code: str) -> tuple[str, ...]:
    return "--", sys.executable, "-c", code


def test_streams_pass_through_and_one_closing_line_says_what_was_recorded(unspool, store):
    done = unspool("run", *python(f"{TOOL}; import sys; sys.stderr.write(input())"), input="to stderr\n")
    assert done.stdout == ""
    assert done.stderr.startswith("to stderr")
    assert CLOSING.fullmatch(done.stderr.removeprefix("to stderr"))
    assert done.returncode == 0


def test_bytes_pass_through_unchanged(store):
    data = bytes(range(256)) * 1000
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    done = subprocess.run(
        [sys.executable, "-m", "unspool", "run", "-q", *python(code)], input=data, capture_output=True, timeout=60
    )
    assert done.stdout == data
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(7)", 7),
        ("import os; os._exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + 15),
    ],
)
def test_the_exit_code_is_the_commands(unspool, store, code, expected):
    done = unspool("run", *python(code))
    assert done.returncode == expected
    (row,) = json.loads(unspool("ls", "--json").stdout)
    assert row["exit_code"] == expected


def test_a_failing_agent_is_listed_with_its_exit_code(unspool, store):
    unspool("run", *python("1/0"))
    assert "exit 1" in unspool("ls").stdout


def test_quiet_says_nothing(unspool, store):
    assert unspool("run", "-q", *python(TOOL)).stderr == ""


def test_options_of_the_command_are_the_commands(unspool, store):
    done = unspool("run", "-q", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--help", "--store", "-q")
    assert done.stdout == "['--help', '--store', '-q']\n"


def test_the_name_is_the_intent(unspool, store):
    unspool("run", "--name", "nightly", *python(TOOL))
    assert json.loads(unspool("ls", "--json").stdout)[0]["intent"] == "nightly"


def test_the_store_is_exported_absolute_and_named_in_the_next_command(unspool, tmp_path):
    code = f"{TOOL}; import os; print(os.environ['UNSPOOL_STORE']); os.chdir('/')"
    done = unspool("run", "--store", "relative", *python(code), cwd=tmp_path)
    assert done.stdout == f"{tmp_path}/relative\n"
    assert CLOSING.fullmatch(done.stderr)
    assert f"--store {tmp_path}/relative" in done.stderr
    assert len(list((tmp_path / "relative" / "records").iterdir())) == 1


def test_a_command_without_python_is_run_and_the_line_says_why_nothing_was_recorded(unspool, store):
    done = unspool("run", "--", "sh", "-c", "echo hello; exit 5")
    assert (done.stdout, done.returncode) == ("hello\n", 5)
    assert "nothing was recorded" in done.stderr
    assert "no Python that unspool could enter" in done.stderr


def test_a_python_that_was_told_to_ignore_its_environment_is_named_as_the_reason(unspool, store):
    done = unspool("run", "--", sys.executable, "-I", "-c", "print('works')")
    assert (done.stdout, done.returncode) == ("works\n", 0)
    assert "was started with -I, -E or -S" in done.stderr


def test_a_store_that_cannot_be_made_costs_the_recording_not_the_run(unspool, tmp_path):
    (tmp_path / "file").write_text("")
    done = unspool("run", "--store", str(tmp_path / "file" / "store"), *python("print('works')"))
    assert (done.stdout, done.returncode) == ("works\n", 0)
    assert "cannot create the store" in done.stderr
    assert "nothing was recorded" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--", "no-such-program"], "no-such-program: command not found"),
        (["--", "/etc/passwd"], "not executable"),
        ([], "Missing argument"),
        (["--trace", "files", "--", "true"], "file, process, net, or none"),
        (["--store"], "--store"),
    ],
)
def test_wrong_usage_exits_with_2_and_records_nothing(unspool, store, args, message):
    done = unspool("run", *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(store.records.iterdir())


def test_a_script_without_an_interpreter_line_is_refused(unspool, store, tmp_path):
    script = tmp_path / "script"
    script.write_bytes(b"\x00\x01")
    script.chmod(0o755)
    done = unspool("run", "--", str(script))
    assert done.returncode == 2
    assert "Exec format error" in done.stderr


# The handler writes past sys.stdout: it may interrupt a print, which must not be entered again.
WAITING = """
import os, signal, sys, time
def handle(number, frame):
    os.write(1, f"got {signal.Signals(number).name}\\n".encode())
    if number != signal.SIGUSR1:
        sys.exit(4)
for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"):
    signal.signal(getattr(signal, name), handle)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("last", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_are_passed_on_and_the_command_decides(store, last):
    process = subprocess.Popen(
        [sys.executable, "-m", "unspool", "run", *python(WAITING)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "got SIGUSR1\n"
        process.send_signal(getattr(signal, last))
        assert process.stdout.readline() == f"got {last}\n"
        assert process.wait(timeout=60) == 4
        assert process.stderr is not None
        assert "unspool: recorded" in process.stderr.read()


def test_no_signal_is_lost(store):
    """One that comes between the handler of the one before and the wait for the command was, once."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unspool", "run", "-q", *python(WAITING)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(300):
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "got SIGUSR1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 4


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("stdin", ["", " </dev/null"])
def test_ctrl_c_at_a_terminal_reaches_the_command_once(store, stdin, tmp_path):
    """Also when standard input is not the terminal: the terminal signals the whole process group by itself."""
    import pty

    counting = (
        "import signal, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *a: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "print('interrupts:', len(seen), flush=True)\n"
    )
    (tmp_path / "counting.py").write_text(counting)
    line = f"exec '{sys.executable}' -m unspool run -- '{sys.executable}' '{tmp_path}/counting.py'{stdin}"
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "-c", line])
    screen = b""
    while b"ready" not in screen:
        screen += os.read(fd, 4096)
    os.write(fd, b"\x03")
    try:
        while data := os.read(fd, 4096):
            screen += data
    except OSError:  # closed by the other side
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"interrupts: 1" in screen
    assert b"unspool: recorded" in screen


def test_records_reads_only_what_this_run_made(store, make, monkeypatch):
    for _ in range(20):
        make()
    launch = Launch([sys.executable, "-c", TOOL], store=Store(store.path), name=None, audit=[])
    monkeypatch.setenv("PYTHONPATH", launch.env["PYTHONPATH"])
    stranger = make().record_id  # by somebody else, meanwhile
    assert launch.run() == 0
    described = []
    original = Launch._describe
    monkeypatch.setattr(Launch, "_describe", lambda self, name: described.append(name) or original(self, name))
    (mine,) = launch.records()
    assert mine.exit_code == 0
    assert described == [mine.record_id]
    assert stranger not in described


def test_a_run_inside_a_run_knows_nothing_of_the_outer_one(unspool, store, tmp_path):
    inner = [sys.executable, "-m", "unspool", "run", "-q", "--store", str(tmp_path / "inner"), *python(TOOL)]
    done = unspool("run", "-q", *python(f"import subprocess; subprocess.run({inner!r}, check=True)"))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(unspool("ls", "--json", "--store", str(tmp_path / "inner")).stdout)
    assert (row["parent"], row["tools"]) == (None, 1)


def test_lost_events_are_said(unspool, store, monkeypatch, tmp_path):
    code = (
        "import unspool, shutil, os, glob\n"
        "step = unspool.tool(lambda: 1)\n"
        "step()\n"
        "import time\n"
        "shutil.rmtree(os.environ['UNSPOOL_STORE'])\n"
        "time.sleep(1.1)\n"
        "step()\n"
        "print('done')\n"
    )
    done = unspool("run", *python(code))
    assert (done.stdout, done.returncode) == ("done\n", 0)
    assert "nothing was recorded" in done.stderr
