"""What holds for every command: the table, help, exit codes, errors, colour, closed pipes, completion."""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import subprocess
import sys

import click
import pytest

import unspool.cli
from unspool import __version__
from unspool.cli.main import COMMANDS, cli

SHARED = {
    "activity", "amounts", "bisect_search", "blame_diff", "blame_json", "blame_text", "causes", "ctx_edits",
    "ctx_json", "ctx_run", "ctx_text", "ctx_verify", "ctx_verify_text", "ctx_view", "ctx_whatif", "deaths",
    "exchanges", "filters", "findings", "follow", "fork_bench", "fork_options", "fork_record", "fork_run",
    "fork_send", "gate", "growth_text", "history", "joined", "launch", "limit_ledger", "limit_options", "limits",
    "lineview", "listing", "live_calls", "live_tools", "main", "moments", "moved", "options", "otlp_export",
    "overview", "prices", "removal", "rerunfolders", "restart", "runs", "screens", "spending_limit", "stopping",
    "subjects", "supervise", "suspects", "table", "terminal", "timeline", "tracelist",
}  # fmt: skip


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_every_module_is_a_command_of_the_table_or_shared_by_several():
    modules = {one.name for one in pkgutil.iter_modules(unspool.cli.__path__)}
    assert modules == SHARED | {module for module, _ in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name):
    assert command(name).name == name
    assert (command(name).help or "").partition("\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_text_for_each_option(name, invoke):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"unspool {name}" in result.output.partition("\n")[2]
    for option in command(name).params:
        assert isinstance(option, click.Argument) or option.help, option.name
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_help_lists_the_commands_and_the_exit_codes(invoke):
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)
    assert "0 done, 1 failed, 2 wrong usage, 3 the rerun diverged" in result.output


def test_help_imports_no_command_and_nothing_heavy():
    code = """
import sys
sys.argv = ["unspool", "--help"]
from unspool.cli.main import main
try:
    main()
except SystemExit:
    pass
print(sorted(name for name in sys.modules if name.split(".")[0] in ("rich", "genai_prices", "msgspec", "readline")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_version(invoke):
    assert invoke("--version").output == f"unspool {__version__}\n"


def test_an_unknown_command_exits_with_2_and_names_the_known(invoke):
    result = invoke("strce")
    assert result.exit_code == 2
    assert "Did you mean strace?" in result.stderr
    assert all(name in result.stderr for name in COMMANDS)


def test_a_wrong_option_exits_with_2_and_says_where_help_is(invoke):
    result = invoke("ls", "--nope")
    assert result.exit_code == 2
    assert "--nope" in result.stderr
    assert "unspool ls --help" in result.stderr


def test_an_error_is_one_line_on_standard_error_and_exits_with_1(invoke, store):
    result = invoke("show", "last")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("unspool: no recordings in ")
    assert result.stderr.count("\n") == 1
    assert "unspool run" in result.stderr


@pytest.mark.parametrize("args", [["--traceback", "show", "last"], ["show", "last", "--traceback"]])
def test_traceback_shows_where_an_error_came_from(invoke, store, args):
    result = invoke(*args)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "NoRecordings" in result.stderr


def test_a_defect_is_reported_without_a_traceback(invoke, store, monkeypatch):
    monkeypatch.setattr("unspool.cli.ls.find_store", lambda _store: 1 / 0)
    result = invoke("ls")
    assert result.exit_code == 1
    assert "defect of unspool: ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_exits_with_130(invoke, store, monkeypatch):
    def interrupted(_store):
        raise KeyboardInterrupt

    monkeypatch.setattr("unspool.cli.ls.find_store", interrupted)
    assert invoke("ls").exit_code == 130


def test_an_error_cannot_write_control_characters(invoke, store):
    assert "\x1b" not in invoke("show", "\x1b[31mx").stderr


# --- colour ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "no_color", "colored"),
    [
        ([], None, False),
        (["--color", "always"], None, True),
        (["--color", "always"], "1", True),
        (["--color", "never"], None, False),
    ],
)
def test_color_is_decided_by_the_option_wherever_it_stands(make, invoke, args, no_color, colored):
    make()
    with pytest.MonkeyPatch.context() as patch:
        if no_color:
            patch.setenv("NO_COLOR", no_color)
        for words in ([*args, "ls"], ["ls", *args]):
            assert ("\x1b[" in invoke(*words).stdout) is colored


def in_terminal(*args: str, **env: str) -> tuple[int, str]:
    """Exit code and screen of a command on a terminal of its own."""
    import pty

    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, [sys.executable, "-m", "unspool", *args], {**os.environ, **env})
    screen = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not data:
            break
        screen += data
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode().replace("\r\n", "\n")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(("env", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_color_unless_it_does_not_want_it(make, env, colored):
    make()
    code, screen = in_terminal("ls", **{"TERM": "xterm", **env})
    assert code == 0
    assert ("\x1b[1m" in screen) is colored


# --- pipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["ls", "-n", "0"], ["strace", "last", "-q"], ["ls", "--json"], ["show", "last"]])
def test_a_closed_pipe_ends_quietly(make, args):
    from cli_events import tool

    make(*(tool(result="x" * 1000) for _ in range(200)))
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'"{sys.executable}" -m unspool {" ".join(args)} | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}',
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_output_that_is_closed_from_the_start_is_no_failure(make):
    make()
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m unspool ls >&-'], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_terminal_that_cannot_show_a_character_gets_an_escape(make):
    make(intent="café ☃")
    done = subprocess.run(
        [sys.executable, "-m", "unspool", "ls"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
    )
    assert done.returncode == 0
    assert b"caf\\xe9 \\u2603" in done.stdout


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(invoke, shell):
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_UNSPOOL_COMPLETE" in result.stdout


def test_completion_of_another_shell_names_the_known(invoke):
    result = invoke("completion", "tcsh")
    assert result.exit_code == 2
    assert "fish" in result.stderr


def completions(line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "unspool"],
        capture_output=True,
        text=True,
        env={**os.environ, "_UNSPOOL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        timeout=60,
    )
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.splitlines()]


def test_commands_options_and_record_ids_are_completed(make):
    record_id = make().record_id
    assert completions("unspool st") == ["strace"]
    assert "--json" in completions("unspool ls --j")
    assert completions("unspool show ") == ["last", record_id]
    assert completions(f"unspool replay {record_id[:3]}") == [record_id]


def test_completion_in_a_broken_store_gives_nothing(tmp_path, monkeypatch):
    (tmp_path / "store").write_text("not a folder")
    monkeypatch.setenv("UNSPOOL_STORE", str(tmp_path / "store"))
    assert completions("unspool show ") == ["last"]


def test_a_recorded_program_that_uses_unspool_does_not_record_it(unspool, store):
    """`unspool ls` inside a recorded script is no agent, and a run inside a run is the root of its own trace."""
    inner = [sys.executable, "-m", "unspool", "run", "-q", "--", sys.executable, "-c", "import unspool.events"]
    script = f"import subprocess; subprocess.run({inner!r}, check=True)"
    done = unspool("run", "-q", "--", sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    rows = json.loads(unspool("ls", "--json", "--flat").stdout)
    roots = [row for row in rows if row["parent"] is None]
    assert len({row["trace_id"] for row in roots}) == len(roots) == 2


def test_a_signal_that_is_ignored_stays_ignored(unspool, store):
    script = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    line = f"trap '' HUP; '{sys.executable}' -m unspool run -q -- '{sys.executable}' -c '{script}'"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
