"""Whatever happens to recorder or program, the program behaves as without unspool, and losses are counted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from capture_harness import SOURCES, Recording, Result, assert_whole, environment, recordings, run, run_code
from capture_webserver import web_server

from unspool.demo.server import ModelServer


def both(code: str, tmp_path: Path, **env: str) -> tuple[Result, list[Recording]]:
    """Run without and with unspool; what the program does must be the same."""
    plain = run_code(code, None, tmp_path, **env)
    result = run_code(code, tmp_path / "store", tmp_path, **env)
    assert (result.stdout, result.code) == (plain.stdout, plain.code)
    assert result.stderr == plain.stderr
    return result, recordings(tmp_path / "store")


TOOLS = """
import os, sys
import unspool
@unspool.tool
def work(n): return f"{n} " + "x" * 2000 + str(n)
print(sum(len(work(n)) for n in range(int(sys.argv[1]))))
"""


def test_disk_full(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(TOOLS)
    limited = f"ulimit -f 64; exec {sys.executable} agent.py 100"
    result = run(["bash", "-c", limited], environment(tmp_path / "store"), cwd=tmp_path)
    assert result.code == 0
    assert result.lines == [str(sum(2001 + 2 * len(str(n)) for n in range(100)))]
    [line] = result.stderr.decode().splitlines()
    assert line.startswith("unspool: recording is incomplete: ")
    [recording] = recordings(tmp_path / "store")
    kept = len(recording.syscalls("ToolCall"))
    assert 0 < kept < 100
    # Two changes of state at the beginning and the end may be lost as well.
    assert 100 - kept <= recording.metadata.lost_events <= 102 - kept


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "agent.py").write_text(TOOLS)
    result = run([sys.executable, "agent.py", "5"], environment(tmp_path / "file" / "store"), cwd=tmp_path)
    assert (result.lines, result.code) == ([str(5 * 2003)], 0)
    [line] = result.stderr.decode().splitlines()
    assert line.startswith("unspool: recording is incomplete: cannot create the store")


def test_the_store_is_removed_while_running(tmp_path: Path) -> None:
    code = """
import os, shutil, time, unspool
work = unspool.tool(lambda n: n)
work(1)
shutil.rmtree(os.environ["THE_STORE"])
for n in range(4):
    work(n); time.sleep(0.3)
print("done", os.path.exists(os.environ["THE_STORE"]))
"""
    result = run_code(code, tmp_path / "store", tmp_path, THE_STORE=str(tmp_path / "store"))
    assert (result.lines, result.code) == (["done False"], 0)
    assert len(result.stderr.splitlines()) <= 1
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("ending", "code", "status", "reason"),
    [
        ("sys.exit(3)", 3, "completed", "exited"),
        ("sys.exit('a message')", 1, "completed", "exited"),
        ("raise ValueError('unhandled')", 1, "completed", "exited: ValueError: unhandled"),
        ("raise KeyboardInterrupt", -2, "completed", "exited: KeyboardInterrupt"),
        ("os._exit(5)", 5, "interrupted", None),
        ("os.kill(os.getpid(), 9)", -9, "interrupted", None),
        ("os.abort()", -6, "interrupted", None),
        ("threading.Thread(target=lambda: 1 / 0).start()", 0, "completed", "exited"),
        ("raise SystemExit", 0, "completed", "exited"),
        ("atexit.register(int, 'x')", 0, "completed", "exited"),
        ("asyncio.run(fails())", 1, "completed", "exited: ZeroDivisionError: division by zero"),
        (
            "list(ThreadPoolExecutor(1).map(lambda n: 1 / n, [0]))",
            1,
            "completed",
            "exited: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_every_way_to_end(ending: str, code: int, status: str, reason: str | None, tmp_path: Path) -> None:
    program = f"""
import asyncio, atexit, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
async def fails():
    await asyncio.create_task(asyncio.sleep(0)); 1 / 0
def inner():
    {ending}
def outer():
    inner()
print("before", flush=True)
outer()
print("after")
"""
    result, [recording] = both(program, tmp_path)
    assert result.code == code
    assert recording.metadata.status == status
    if reason is not None:
        assert recording.events[-1].state is not None
        assert recording.events[-1].state.reason == reason


def test_interrupted_from_the_terminal(tmp_path: Path) -> None:
    code = """
import os, sys, time, unspool
@unspool.tool
def wait():
    print("waiting", flush=True)
    time.sleep(30)
wait()
"""
    (tmp_path / "agent.py").write_text(code)
    agent = subprocess.Popen(
        [sys.executable, "agent.py"], env=environment(tmp_path / "store"), cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"waiting\n"
    agent.send_signal(signal.SIGINT)
    _, stderr = agent.communicate(timeout=20)
    assert agent.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith(b"KeyboardInterrupt")
    [recording] = recordings(tmp_path / "store")
    [tool] = recording.syscalls("ToolCall")
    assert tool.syscall is not None
    assert tool.syscall.err == "KeyboardInterrupt"
    assert recording.metadata.status == "completed"


def test_recursion_errors(tmp_path: Path) -> None:
    code = """
import datetime, sys, time, unspool
@unspool.tool
def deeper(n):
    time.time(); datetime.datetime.now()
    return deeper(n + 1)
def plain(n):
    time.time()
    return plain(n + 1)
for function in (deeper, plain):
    try: function(0)
    except RecursionError as error: print(error)
print(unspool.tool(lambda: "still works")())
"""
    result = run_code(code, tmp_path / "store", tmp_path)
    assert [line.split(" while")[0] for line in result.lines] == ["maximum recursion depth exceeded"] * 2 + [
        "still works"
    ]
    assert result.code == 0
    [recording] = recordings(tmp_path / "store")
    assert recording.syscalls("ToolCall")[-1].syscall.result == "still works"  # type: ignore[union-attr]
    assert recording.metadata.lost_events == 0 or b"unspool: recording is incomplete" in result.stderr


def test_10_000_tool_calls_from_threads(tmp_path: Path) -> None:
    code = """
import threading, unspool
from concurrent.futures import ThreadPoolExecutor
work = unspool.tool(lambda n: n * 2)
with ThreadPoolExecutor(32) as pool:
    print(sum(pool.map(work, range(10_000))))
"""
    result, [recording] = both(code.replace("import threading, unspool", "import threading\n" + IMPORT), tmp_path)
    assert result.lines == [str(sum(range(10_000)) * 2)]
    tools = [event.syscall for event in recording.syscalls("ToolCall") if event.syscall is not None]
    assert sorted(tool.args["input"]["n"] for tool in tools) == list(range(10_000))
    assert all(tool.result == tool.args["input"]["n"] * 2 for tool in tools)
    assert [event.seq_num for event in recording.events] == list(range(1, len(recording.events) + 1))
    assert recording.metadata.lost_events == 0
    assert len({event.span_id for event in recording.syscalls("ToolCall")}) == 10_000


# A program that runs with unspool and without: `unspool.tool` is there only when it is recorded.
IMPORT = """
try: import unspool
except ImportError:
    class unspool:
        tool = staticmethod(lambda function: function)
"""


def test_a_tool_result_of_50_mb(tmp_path: Path) -> None:
    code = """
work = unspool.tool(lambda: "0123456789" * 5_000_000)
result = work(); print(len(result))
data = unspool.tool(lambda: bytes(20_000_000))(); print(len(data))
"""
    _, [recording] = both(IMPORT + code, tmp_path)
    text, data = (event.syscall.result for event in recording.syscalls("ToolCall") if event.syscall is not None)
    assert text == "0123456789" * 5_000_000
    assert data == bytes(20_000_000)


def test_lone_surrogates(tmp_path: Path) -> None:
    pytest.importorskip("requests")
    code = """
import json, os, requests
tool = unspool.tool(lambda text: text + " \\udfff")
print(ascii(tool("\\ud800")))
body = {"model": "echo", "messages": [{"role": "user", "content": "half \\ud83d"}]}
for ensure_ascii in (True, False):
    data = json.dumps(body, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    answer = requests.post(os.environ["MODEL_URL"] + "/v1/chat/completions", data=data)
    print(answer.status_code)
"""
    with ModelServer() as server:
        _, [recording] = both(IMPORT + code, tmp_path, MODEL_URL=server.url)
    assert_whole(recording.calls)
    assert len(recording.calls) == 2
    assert recording.calls[0].user_text == "half \ud83d"
    assert recording.metadata.lost_events == 0
    [tool] = recording.syscalls("ToolCall")
    assert tool.syscall is not None
    assert tool.syscall.result == "\ud800 \udfff"


def test_the_program_patches_the_client_after_us(tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    code = """
import os, httpx
original, seen = httpx.Client._send_single_request, []
def mine(self, request):
    seen.append(request.method)
    return original(self, request)
httpx.Client._send_single_request = mine
send = httpx.Client.send
def my_send(self, request, **options):
    answer = send(self, request, **options)
    answer.mine = True
    return answer
httpx.Client.send = my_send
answer = httpx.get(os.environ["MODEL_URL"] + "/page")
print(answer.status_code, len(answer.content), answer.mine, seen)
"""
    with web_server() as port:
        _, [recording] = both(code, tmp_path, MODEL_URL=f"http://127.0.0.1:{port}")
    assert len(recording.http) == 1


def test_a_patch_of_the_program_survives_the_end_of_record(tmp_path: Path) -> None:
    code = """
import time, unspool
real = time.time
with unspool.record("block"):
    ours = time.time
    time.time = lambda: ours() * 0 + 42
print(time.time(), ours() > 42, real is not ours)
"""
    result = run_code(code, None, tmp_path, PYTHONPATH=str(SOURCES), UNSPOOL_STORE=str(tmp_path / "store"))
    assert (result.lines, result.stderr) == (["42.0 True True"], b"")


def test_finalizers_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """Streams dropped in cycles are finished by the garbage collector, which may run in the middle of a write."""
    pytest.importorskip("httpx")
    code = """
import gc, threading, httpx
gc.set_threshold(1, 1, 1)
work = unspool.tool(lambda n: {"n": n, "text": "x" * 2000, "nested": [{"a": i} for i in range(20)]})
class Stream(httpx.SyncByteStream):
    def __iter__(self):
        for _ in range(10): yield b"y" * 100
class Transport(httpx.BaseTransport):  # httpcore's own pool has a lock that a finalizer may wait for in vain
    def handle_request(self, request): return httpx.Response(200, stream=Stream())
client = httpx.Client(transport=Transport())
def churn(base):
    for n in range(60):
        answer = client.send(client.build_request("GET", "http://nowhere.invalid/page"), stream=True)
        iterator = answer.iter_raw(100); next(iterator)
        cycle = [answer, iterator]; cycle.append(cycle)
        del answer, iterator, cycle
        work(base + n)
threads = [threading.Thread(target=churn, args=(k * 100,)) for k in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
gc.collect()
print("done")
"""
    _, [recording] = both(IMPORT + code, tmp_path)
    assert len(recording.syscalls("ToolCall")) == 180
    assert len(recording.http) == 180
    assert recording.metadata.lost_events == 0


def test_forks_while_threads_are_writing(tmp_path: Path) -> None:
    """Locks held by threads that do not exist in the child must not stop it."""
    code = """
import os, threading, time, warnings
warnings.simplefilter("ignore")  # Python 3.12 and later warn of just this, and name the process
work = unspool.tool(lambda n: "x" * 500)
stop = threading.Event()
def hammer():
    while not stop.is_set(): work(0)
threads = [threading.Thread(target=hammer) for _ in range(4)]
[t.start() for t in threads]
codes = []
for n in range(20):
    child = os.fork()
    if child == 0:
        work(n); os._exit(0)
    deadline = time.monotonic() + 20
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid: codes.append(status); break
        if time.monotonic() > deadline: os.kill(child, 9); os.waitpid(child, 0); codes.append("stuck"); break
        time.sleep(0.001)
stop.set(); [t.join() for t in threads]
print(codes)
"""
    _, found = both(IMPORT + code, tmp_path)
    assert len(found) == 21
    assert [len(one.syscalls("ToolCall")) for one in found[1:]] == [1] * 20
    assert {one.metadata.parent for one in found[1:]} == {found[0].metadata.record_id}


def test_faults_in_the_recorder_itself_are_counted(tmp_path: Path) -> None:
    """A bug of ours, simulated: events that cannot be made are counted, and said once."""
    code = """
import unspool.recording.recorder as recorder
real = recorder.Recorder.write_event
def broken(self, event):
    if event.syscall is not None and event.syscall.args.get("input") == {"n": 2}: raise RuntimeError("a bug")
    return real(self, event)
recorder.Recorder.write_event = broken
work = unspool.tool(lambda n: n)
print([work(n) for n in (1, 2, 3, 2)])
"""
    result = run_code("import unspool\n" + code, tmp_path / "store", tmp_path)
    assert (result.lines, result.code) == (["[1, 2, 3, 2]"], 0)
    assert result.stderr == b"unspool: recording is incomplete: RuntimeError: a bug\n"
    [recording] = recordings(tmp_path / "store")
    assert len(recording.syscalls("ToolCall")) == 2
    assert recording.metadata.lost_events == 2


def test_a_program_that_closes_its_own_files(tmp_path: Path) -> None:
    """Daemons close every descriptor, ours among them; what they open next must not be written to."""
    code = """
import os, time
work = unspool.tool(lambda n: n)
work(1)
os.closerange(3, 256)
mine = [open(f"mine{n}", "w") for n in range(8)]
work(2); work(3); time.time()
for file in mine: file.close()
print([os.path.getsize(f"mine{n}") for n in range(8)])
"""
    plain = run_code(IMPORT + code, None, tmp_path)
    result = run_code(IMPORT + code, tmp_path / "store", tmp_path)
    assert (result.stdout, result.code) == (plain.stdout, plain.code)
