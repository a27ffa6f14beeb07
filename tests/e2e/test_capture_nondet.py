"""What the agent's own code reads from the clock and from random sources is logged, and nothing about it changes."""

from __future__ import annotations

import base64
import random
import struct
from pathlib import Path

from capture_harness import recordings, run_code

CODE = """
import calendar, copy, datetime, json, logging, os, pickle, random, secrets, sys, time, uuid
out = {}
out["time"] = time.time(); out["time_ns"] = time.time_ns()
moment = datetime.datetime.now(); out["now"] = moment.isoformat()
out["now_utc"] = datetime.datetime.now(datetime.timezone.utc).isoformat()
out["utcnow"] = datetime.datetime.utcnow().isoformat() if sys.version_info < (3, 12) else None
out["today"] = datetime.date.today().isoformat(); out["today2"] = datetime.datetime.today().isoformat()
for name in ("ctime", "asctime"): out[name] = int(time.mktime(time.strptime(getattr(time, name)())))
out["strftime"] = int(time.strftime("%s")); out["gmtime"] = calendar.timegm(time.gmtime())
out["localtime"] = int(time.mktime(time.localtime()))
out["uuid4"] = uuid.uuid4().hex; out["uuid1"] = uuid.uuid1().hex
out["urandom"] = os.urandom(8).hex(); out["token"] = secrets.token_hex(8); out["choice"] = secrets.choice(range(1000))
out["random"] = [random.random() for _ in range(3)]
generator = random.Random(); out["own"] = [generator.random() for _ in range(3)]
seeded = random.Random(7); out["seeded"] = seeded.random()
out["system"] = random.SystemRandom().random()
print(json.dumps(out))

class Mine(datetime.datetime):
    def isoformat(self, *a): raise RuntimeError("mine")
    @property
    def extra(self): return 1
class Clock:
    now = time.time
    random = os.urandom
print(type(moment) is datetime.datetime, type(Mine.now()) is Mine, Mine.today().extra)
print(isinstance(moment, datetime.date))
print(pickle.loads(pickle.dumps(moment)) == moment, pickle.loads(pickle.dumps(time.time)) is time.time,
      copy.deepcopy(time.time)() > 0, pickle.loads(pickle.dumps(os.urandom))(2) is not None)
print(Clock().now() > 0, len(Clock().random(4)), time.time.__name__, datetime.datetime.now.__name__)
print(datetime.datetime is type(moment), datetime.datetime.__mro__ == (datetime.datetime, datetime.date, object))
print(sys.getsizeof(moment), moment.__reduce__()[0] is datetime.datetime, callable(datetime.datetime.now))
for call in (lambda: datetime.datetime.now("zone"), lambda: time.time(1), lambda: os.urandom(-1), lambda: os.urandom()):
    try: call()
    except Exception as error: print(type(error).__name__)
"""


def test_values_are_those_the_program_saw(tmp_path: Path) -> None:
    result = run_code(CODE, tmp_path / "store", tmp_path)
    plain = run_code(CODE, None, tmp_path)
    assert result.stderr == plain.stderr == b""
    assert result.lines[1:] == plain.lines[1:]
    [recording] = recordings(tmp_path / "store")
    assert recording.metadata.lost_events == 0
    seen = result.facts()
    lines = recording.nondet()
    main = [line for line in lines if ":2 " not in str(line.get("at"))]

    def values(kind: str) -> list[object]:
        return [line["v"] for line in main if line["k"] == kind]

    assert values("time")[0] == seen["time"]
    assert values("time_ns")[0] == seen["time_ns"]
    assert values("datetime.now")[:1] == [seen["now"]]
    assert values("datetime.now(tz)") == [seen["now_utc"]]
    if seen["utcnow"] is not None:
        assert values("datetime.utcnow") == [seen["utcnow"]]
    assert values("date.today") == [seen["today"]]
    assert values("datetime.today")[:1] == [seen["today2"]]
    for kind in ("strftime", "ctime", "asctime", "gmtime", "localtime"):
        assert values(kind) == [seen[kind]]
    assert (values("uuid4"), values("uuid1")) == ([seen["uuid4"]], [seen["uuid1"]])
    assert values("urandom")[:2] == [seen["urandom"], seen["token"]]
    # The state of the generators gives what was drawn from them.
    [start] = values("random.start")
    assert _draws(start) == seen["random"]
    [own] = values("random.state")
    assert _draws(own) == seen["own"]
    places = {str(line["at"]).rpartition(":")[0] for line in lines if "at" in line}
    assert places == {str(tmp_path / "agent.py")}
    assert {line["t"] for line in lines} == {"0"}


def _draws(state: object) -> list[float]:
    assert isinstance(state, dict)
    packed = base64.b64decode(state["state"])
    generator = random.Random()
    generator.setstate((state["version"], struct.unpack(f"<{len(packed) // 4}I", packed), state["gauss"]))
    return [generator.random() for _ in range(3)]


def test_the_interpreter_and_http_clients_are_not_logged(tmp_path: Path) -> None:
    code = """
import asyncio, http.cookiejar, multiprocessing, queue, ssl, tempfile, threading
import httpx, requests
tempfile.mkdtemp()
threading.Event().wait(0.001)
asyncio.run(asyncio.sleep(0))
ssl.create_default_context()
http.cookiejar.CookieJar().clear_expired_cookies()
for get in (httpx.get, requests.get):
    try: get("http://127.0.0.1:9/")
    except Exception: pass
"""
    run_code(code, tmp_path / "store", tmp_path)
    [recording] = recordings(tmp_path / "store")
    assert [line for line in recording.nondet() if line["k"] != "random.start"] == []


def test_the_time_of_a_log_record_is_the_programs(tmp_path: Path) -> None:
    code = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(created).6f %(message)s")
logging.warning("now")
"""
    result = run_code(code, tmp_path / "store", tmp_path)
    [recording] = recordings(tmp_path / "store")
    [line] = recording.nondet()
    seconds = float(line["v"]) / (1e9 if line["k"] == "time_ns" else 1)  # type: ignore[arg-type]
    assert result.lines == [f"{seconds:.6f} now"]
    assert line["at"] == f"{tmp_path / 'agent.py'}:4"


def test_a_forked_child_logs_its_own_state(tmp_path: Path) -> None:
    code = """
import os, random, unspool
draw = unspool.tool(lambda: [random.random() for _ in range(3)])
draw()
child = os.fork()
if child == 0:
    draw(); os._exit(0)
os.waitpid(child, 0)
"""
    result = run_code(code, tmp_path / "store", tmp_path)
    assert (result.stderr, result.code) == (b"", 0)
    for recording in recordings(tmp_path / "store"):
        [tool] = recording.syscalls("ToolCall")
        start = next(line["v"] for line in recording.nondet() if line["k"] == "random.start")
        assert tool.syscall is not None
        assert _draws(start) == tool.syscall.result
