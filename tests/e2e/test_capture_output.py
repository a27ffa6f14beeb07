"""Standard output as a recording keeps it: byte for byte, and the program notices nothing."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from capture_harness import Result, environment, run

from unspool.recording.stdout import STDOUT_KEPT_MAX, Stdout, read_stdout

FACTS = """\
import sys
buffer = sys.stdout.buffer
facts = [type(sys.stdout).__name__, sys.stdout is sys.__stdout__, sys.stdout.isatty(), sys.stdout.encoding]
facts += [sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.newlines, repr(sys.stdout)]
facts += [sys.stdout.fileno(), sys.stdout.mode, buffer.fileno(), buffer.name, buffer.mode, buffer.closed]
facts += [buffer.seekable(), buffer.__sizeof__() if hasattr(buffer, "raw") else None]
print(facts)
"""

WRITES = """\
import atexit, os, sys, threading
print("plain, with ünïcode")
sys.stdout.buffer.write(b"raw \\xff bytes\\n")
sys.stdout.flush()
def work(number):
    sys.stdout.write(f"thread {number}\\n")
for number in range(3):
    thread = threading.Thread(target=work, args=(number,))
    thread.start()
    thread.join()
sys.stdout.writelines(["a\\n", "b\\n"])
atexit.register(print, "at exit")
print("no newline", end="")
"""


def program(folder: Path, code: str, *python: str, recorded: bool, stdout: int = subprocess.PIPE) -> Result:
    script = folder / "agent.py"
    script.write_text(code)
    argv: list[str | Path] = [sys.executable, *python, script]
    if recorded:
        argv = [sys.executable, "-m", "unspool", "run", "-q", "--store", folder / "store", "--", *argv]
    done = subprocess.run(argv, env=environment(None), stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    return Result(done.returncode, done.stdout or b"", done.stderr)


def kept(folder: Path, number: int = 1) -> Stdout:
    [found] = (folder / "store" / "records").glob(f"{number}-*")
    return read_stdout(found)


@pytest.mark.parametrize("python", [(), ("-u",)])
def test_the_stream_looks_the_same_and_every_byte_is_kept(tmp_path: Path, python: tuple[str, ...]) -> None:
    code = FACTS + WRITES
    plain = program(tmp_path, code, *python, recorded=False)
    recorded = program(tmp_path, code, *python, recorded=True)
    assert recorded == plain
    assert kept(tmp_path) == Stdout(plain.stdout, 0, None, False)


def test_a_file_and_a_terminal_look_the_same_too(tmp_path: Path) -> None:
    code = FACTS + "sys.stdout.seek(0, 1) if sys.stdout.seekable() else None\nprint('end')\n"
    for recorded in (False, True):
        with (tmp_path / f"out-{recorded}").open("wb") as file:
            assert program(tmp_path, code, recorded=recorded, stdout=file.fileno()).code == 0
    assert (tmp_path / "out-True").read_bytes() == (tmp_path / "out-False").read_bytes() == kept(tmp_path).kept
    seen = []
    for recorded in (False, True):
        outer, inner = pty.openpty()
        assert program(tmp_path, FACTS, recorded=recorded, stdout=inner).code == 0
        os.close(inner)
        seen.append(os.read(outer, 65536))
        os.close(outer)
    assert seen[0] == seen[1]
    assert b"True" in seen[0]
    assert kept(tmp_path, 2).isatty


def test_forked_children_and_pool_workers_write_their_own(tmp_path: Path) -> None:
    code = """\
import multiprocessing, os, socket, sys
def work(number):
    sys.stdout.write(f"worker {number}\\n")
    try:
        socket.create_connection(("127.0.0.1", 9)).close()  # something worth a recording
    except OSError:
        pass
print("before", flush=True)
worker = multiprocessing.get_context("fork").Process(target=work, args=(7,))
worker.start()
worker.join()
print("after")
"""
    recorded = program(tmp_path, code, recorded=True)
    assert recorded.stdout == b"before\nworker 7\nafter\n"
    assert kept(tmp_path).kept == b"before\nafter\n"
    assert kept(tmp_path, 2).kept == b"worker 7\n"


def test_beyond_the_limit_size_and_hash_are_kept(tmp_path: Path) -> None:
    code = f"import sys\nfor i in range(8):\n    sys.stdout.write(str(i) * {STDOUT_KEPT_MAX // 4})\n"
    out = program(tmp_path, code, recorded=True).stdout
    found = kept(tmp_path)
    assert found.kept == out[:STDOUT_KEPT_MAX]
    assert found.size == len(out) == 2 * STDOUT_KEPT_MAX
    assert found.rest_sha256 == hashlib.sha256(out[STDOUT_KEPT_MAX:]).hexdigest()


def test_a_closed_or_replaced_stdout_is_left_alone_and_said(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("import sys\nsys.exit(sys.stdout is not None)\n")
    command = (
        f'exec "{sys.executable}" -m unspool run -q --store "{tmp_path}/store" -- "{sys.executable}" "{script}" >&-'
    )
    done = run(["sh", "-c", command], environment(None))
    assert done.code == 0, done.stderr
    assert kept(tmp_path).missing == "standard output is closed"


def test_a_reader_that_goes_away_and_a_full_disk_end_the_program_as_ever(tmp_path: Path) -> None:
    code = "import sys\nprint('x' * 100)\n"
    for target in ("/dev/full", None):
        codes = []
        for recorded in (False, True):
            if target is not None:
                with open(target, "wb") as file:
                    codes.append(program(tmp_path, code, recorded=recorded, stdout=file.fileno()).code)
                continue
            reading, writing = os.pipe()
            os.close(reading)
            codes.append(program(tmp_path, code, recorded=recorded, stdout=writing).code)
            os.close(writing)
        assert codes[0] == codes[1] != 0


def test_a_killed_program_loses_nothing_it_flushed(tmp_path: Path) -> None:
    code = "import os, signal\nprint('flushed', flush=True)\nprint('not')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert program(tmp_path, code, recorded=True).stdout == b"flushed\n"
    assert kept(tmp_path).kept == b"flushed\n"
