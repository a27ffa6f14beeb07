"""Commands, sockets and files of the agent's code appear as syscalls, under the tool that did them; noise does not."""

from __future__ import annotations

from pathlib import Path

from capture_harness import Recording, recordings, run_code

from unspool.events import RecordEvent, SyscallEventData


def record(code: str, tmp_path: Path, **env: str) -> Recording:
    plain = (
        run_code(code, None, tmp_path, PYTHONPATH=env.pop("PLAIN_PATH", ""), **env) if "unspool" not in code else None
    )
    result = run_code(code, tmp_path / "store", tmp_path, **env)
    assert result.stderr == b"" or (plain is not None and result.stderr == plain.stderr), result.stderr
    assert plain is None or (plain.stdout, plain.code) == (result.stdout, result.code)
    found = recordings(tmp_path / "store")[0]
    assert found.metadata.lost_events == 0
    return found


def of(recording: Recording, name: str) -> list[tuple[RecordEvent, SyscallEventData]]:
    return [(event, event.syscall) for event in recording.syscalls(name) if event.syscall is not None]


def test_commands_and_their_exit_codes(tmp_path: Path) -> None:
    code = """
import asyncio, os, subprocess, sys
subprocess.run(["true"])
subprocess.run("exit 3", shell=True)
child = subprocess.Popen(["sh", "-c", "kill -9 $$"]); child.wait()
try: subprocess.run(["no-such-command"])
except FileNotFoundError as error: print(error)
try: subprocess.check_output(["false"])
except subprocess.CalledProcessError as error: print(error.returncode)
async def main():
    child = await asyncio.create_subprocess_exec("sh", "-c", "exit 4"); print(await child.wait())
    child = await asyncio.create_subprocess_shell("exit 5"); print(await child.wait())
asyncio.run(main())
with os.popen("echo from popen") as file: print(os.system("exit 6"), file.read())
os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ), 0)
unwaited = subprocess.Popen(["true"])
"""
    recording = record(code, tmp_path)
    results = [(data.result, data.err) for _, data in of(recording, "Exec")]
    assert results[:2] == [("exit 0", ""), ("exit 3", "exit code 3")]
    assert results[2] == ("exit -9", "exit code -9")
    assert results[3][1].startswith("FileNotFoundError")
    codes = [("exit 1", "exit code 1"), *((f"exit {n}", f"exit code {n}") for n in (4, 5, 6))]
    # Nobody tells us when what posix_spawn started has ended.
    assert results[4:] == [*codes, ("exit 0", ""), ("attempted", ""), ("not waited for", "")]
    paths = [str(data.args["path"]).rpartition("/")[2] for _, data in of(recording, "Exec")]
    assert paths == ["true", "sh", "sh", "no-such-command", "false", "sh", "sh", "sh", "sh", "sh", "true"]


def test_sockets(tmp_path: Path) -> None:
    code = """
import socket, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
socket.create_connection(server.server_address).close()
try: urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/")
except Exception as error: print(type(error).__name__)
try: socket.create_connection(("127.0.0.1", 9))
except OSError as error: print(type(error).__name__)
print(server.server_port)
server.shutdown()
"""
    result = run_code(code, tmp_path / "store", tmp_path)
    port = result.lines[-1]
    [recording] = recordings(tmp_path / "store")
    paths = [data.args["path"] for _, data in of(recording, "Connect")]
    assert paths == [f"/dev/net/127.0.0.1:{port}"] * 2 + ["/dev/net/127.0.0.1:9"]


FILES = """
import json, os, pathlib, tempfile, unspool
import xml.dom.minidom, sqlite3, email.mime.text   # imports open files: noise

@unspool.tool
def write(name):
    with open(name, "w") as file: file.write("text")
    pathlib.Path(name).read_text()
    os.rename(name, name + ".old"); os.remove(name + ".old"); os.mkdir("folder"); os.rmdir("folder")
write("notes.txt")
fd = os.open("raw.bin", os.O_WRONLY | os.O_CREAT); os.close(fd)
print(json.__file__ and open(json.__file__).read(5) is not None, open("/proc/self/stat").read(1) != "")
"""


def test_files_on_request(tmp_path: Path) -> None:
    recording = record(FILES, tmp_path, TEST_TRACE="file")
    here = f"/dev/fs{tmp_path}"
    opened = [(data.args["path"], data.args["mode"]) for _, data in of(recording, "Open")]
    assert opened == [(f"{here}/notes.txt", "w"), (f"{here}/notes.txt", "r"), (f"{here}/raw.bin", "w")]
    changes = [
        (name, data.args["path"]) for name in ("Rename", "Remove", "Mkdir", "Rmdir") for _, data in of(recording, name)
    ]
    assert changes == [
        ("Rename", f"{here}/notes.txt"),
        ("Remove", f"{here}/notes.txt.old"),
        ("Mkdir", f"{here}/folder"),
        ("Rmdir", f"{here}/folder"),
    ]
    [(tool, _)] = of(recording, "ToolCall")
    inside = [event.parent_span_id for event, data in of(recording, "Open") if "notes" in str(data.args["path"])]
    assert inside == [tool.span_id] * 2
    root = recording.events[0].span_id
    assert of(recording, "Open")[-1][0].parent_span_id == root


def test_files_are_off_by_default(tmp_path: Path) -> None:
    recording = record(FILES, tmp_path)
    assert [name for name in ("Open", "Rename", "Mkdir") if of(recording, name)] == []


def test_what_a_tool_starts_hangs_on_the_tool(tmp_path: Path) -> None:
    code = """
import asyncio, subprocess, socket, sys, threading, unspool
@unspool.tool
def sync_tool(): subprocess.run(["true"])
@unspool.tool
async def async_tool(n):
    child = await asyncio.create_subprocess_exec("sh", "-c", f"exit {n}")
    await child.wait()
@unspool.tool
def threaded():
    thread = threading.Thread(target=subprocess.run, args=(["true"],)); thread.start(); thread.join()
sync_tool(); threaded()
async def main(): await asyncio.gather(*(async_tool(n) for n in range(4)))
asyncio.run(main())
"""
    recording = record(code, tmp_path)
    tools = {event.span_id: data for event, data in of(recording, "ToolCall")}
    executed = of(recording, "Exec")
    assert len(executed) == 6
    for event, data in executed:
        tool = tools[event.parent_span_id]
        if "n" in tool.args["input"]:
            assert data.args["argv"][-1] == f"exit {tool.args['input']['n']}"


def test_exec_ends_one_recording_and_begins_another(tmp_path: Path) -> None:
    code = """
import os, sys
if len(sys.argv) > 1:
    print("the second")
else:
    try: os.execvp("no-such-command-at-all", ["x"])
    except FileNotFoundError: print("the first", flush=True)
    os.execv(sys.executable, [sys.executable, __file__, "again"])
"""
    result = run_code(code, tmp_path / "store", tmp_path)
    assert (result.lines, result.stderr) == (["the first", "the second"], b"")
    first, *rest = recordings(tmp_path / "store")
    assert first.metadata.status == "completed"
    assert first.events[-1].state is not None
    assert first.events[-1].state.reason == "replaced by exec"
    assert rest == []  # it did nothing that is worth a recording of its own
