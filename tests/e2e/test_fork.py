"""`unspool fork` end to end: real SDKs, recorded, forked at a middle call, and run on to another end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from capture_harness import AGENTS, Result, environment, run

from unspool.demo import story
from unspool.demo.script import ModelRequest, Reply, ToolCall
from unspool.demo.server import ModelServer
from unspool.events import RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader

SDKS = ["openai_chat", "openai_responses", "openai_stateful", "anthropic", "gemini"]
STREAMS = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]
RIGHT = "ANSWER: refund 355.32 USD"
WRONG = "ANSWER: refund 411.25 USD"


@dataclass
class Model:
    """The model of `agents/lookups.py`, and what it was asked."""

    asked: list[ModelRequest] = field(default_factory=list)

    def __call__(self, request: ModelRequest) -> Reply:
        """Look up each fruit the task names, one at a time; then say the sum, as the system prompt wants it said."""
        self.asked.append(request)
        named = re.findall(r"apple|pear|plum", next(m.text for m in request.messages if m.role == "user"))
        results = [result.text for _, result in request.results]
        if len(results) < len(named):
            return Reply(
                text=f"Now {named[len(results)]}.", tool_calls=(ToolCall("price", {"name": named[len(results)]}),)
            )
        total = sum(int(text) for text in results)
        hurry = " quickly" if "hurry" in request.last_user_text else ""
        return Reply(text=f"{total} {'euro' if 'euro' in request.system else 'coins'}{hurry}")


@dataclass
class Forks:
    """A store with a recorded run, and the command line."""

    store: Path
    env: dict[str, str]

    def unspool(self, *args: str, **env: str) -> Result:
        return run(
            [sys.executable, "-m", "unspool", *args, "--store", str(self.store)], {**self.env, **env}, timeout=90
        )

    def record(self, *command: str) -> RecordReader:
        done = run(
            [
                sys.executable,
                "-m",
                "unspool",
                "run",
                "--quiet",
                "--store",
                str(self.store),
                "--",
                sys.executable,
                *command,
            ],
            self.env,
        )
        assert done.code == 0, done.stderr.decode()
        return self.reader("last")

    def reader(self, which: str) -> RecordReader:
        from unspool.recording.address import resolve
        from unspool.store import Store

        return RecordReader(resolve(Store(self.store), which).record_dir)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[ModelServer]:
    with ModelServer(model) as running:
        yield running


@pytest.fixture
def forks(tmp_path: Path, server: ModelServer) -> Forks:
    return Forks(tmp_path / "store", environment(None, TEST_URL=server.url, **_no_proxy()))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, server: ModelServer) -> Callable[[str, bool], Forks]:
    """A store with one recording of an agent, made once: forks leave it as it is."""
    made: dict[tuple[str, bool], Forks] = {}

    def recorded(sdk: str, stream: bool) -> Forks:
        if (sdk, stream) not in made:
            store = tmp_path_factory.mktemp("library") / "store"
            found = made[sdk, stream] = Forks(store, environment(None, TEST_URL=server.url, **_no_proxy()))
            found.record(*agent(sdk, stream))
        return made[sdk, stream]

    return recorded


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Forks]:
    """The demo agent, recorded with its wrong answer."""
    with ModelServer(story.play, pages=story.PAGES) as running:
        found = Forks(tmp_path / "store", environment(None, OPENAI_BASE_URL=f"{running.url}/v1", **_no_proxy()))
        found.record("-m", "unspool.demo.agent")
        yield found


def _no_proxy() -> Mapping[str, str]:
    return {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def agent(sdk: str, stream: bool) -> list[str]:
    return [str(AGENTS / "lookups.py"), sdk, *(["--stream"] if stream else [])]


def events_of(reader: RecordReader, kind: RecordEventType) -> list[RecordEvent]:
    return [event for event in reader.events() if event.type is kind]


def answer_line(result: Result) -> str:
    lines = [line for line in result.lines if line.startswith("ANSWER:")]
    assert lines, result.stdout.decode() + result.stderr.decode()
    return lines[-1]


def call_id_of(reader: RecordReader, call: int, text: str) -> str:
    """The id of the call whose result before model call `call` is `text`; the tool's name where the wire has no ids."""
    context = reader.context_at(_snapshot(reader, call))
    message = next(one for one in context.messages if one.role == "tool" and text in one.content)
    return message.tool_call_id or message.tool_name or ""


def _snapshot(reader: RecordReader, call: int) -> int:
    return next(event.seq_num for event in events_of(reader, RecordEventType.CONTEXT_SNAPSHOT) if event.call == call)


# --- each SDK, each kind of edit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sdk", SDKS)
def test_a_changed_system_prompt_stays_changed(
    library: Callable[[str, bool], Forks], model: Model, sdk: str, stream: bool
) -> None:
    forks = library(sdk, stream)
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:3", "--set-system", "Say it in euro.", "--run", "--yes")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: 12 euro"
    live = model.asked[before:]
    assert [request.system for request in live] == ["Say it in euro."] * 2
    # The prefix was served: two calls, their tools not run; what is behind the fork ran.
    assert [len(request.results) for request in live] == [2, 3]
    assert done.lines.count("price of plum") == 1
    assert "price of apple" not in done.lines


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sdk", SDKS)
def test_a_changed_tool_result_stays_changed(
    library: Callable[[str, bool], Forks], model: Model, sdk: str, stream: bool
) -> None:
    forks = library(sdk, stream)
    reader = forks.reader("last")
    before = len(model.asked)
    call = call_id_of(reader, 2, "3")
    done = forks.unspool("fork", "last@call:2", "--tool-result", f"{call}=300", "--run", "--yes")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: 309 coins"
    assert [[result.text for _, result in request.results] for request in model.asked[before:]] == [
        ["300"],
        ["300", "4"],
        ["300", "4", "5"],
    ]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sdk", SDKS)
def test_a_changed_response_is_what_the_program_gets(
    library: Callable[[str, bool], Forks], model: Model, sdk: str, stream: bool
) -> None:
    forks = library(sdk, stream)
    before = len(model.asked)
    said = json.dumps({"text": "A fig.", "tool_calls": [{"name": "price", "arguments": {"name": "fig"}}]})
    done = forks.unspool("fork", "last@call:2", "--set-response", said, "--run", "--yes")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: 48 coins"
    # Nothing was sent at the point itself; what follows has the edited answer in it.
    assert [len(request.results) for request in model.asked[before:]] == [2, 3]
    assert "A fig." in [message.text for message in model.asked[-1].messages if message.role == "assistant"]
    calls = events_of(forks.reader("last-fork"), RecordEventType.LLM_RESPONSE)
    assert [event.origin for event in calls] == ["served", "edited", "live", "live"]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sdk", SDKS)
def test_an_answer_in_words_ends_the_program(
    library: Callable[[str, bool], Forks], model: Model, sdk: str, stream: bool
) -> None:
    forks = library(sdk, stream)
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:2", "--set-response", "Enough: 7.", "--run")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: Enough: 7."
    assert len(model.asked) == before


@pytest.mark.parametrize("sdk", SDKS)
def test_an_added_message_is_in_all_later_requests(
    library: Callable[[str, bool], Forks], model: Model, sdk: str
) -> None:
    forks = library(sdk, False)
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:3", "--append", "user:Please hurry.", "--run", "--yes")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: 12 coins quickly"
    assert [request.last_user_text for request in model.asked[before:]] == ["Please hurry."] * 2


def test_requests_that_lean_on_served_responses_are_sent_in_full(forks: Forks, model: Model) -> None:
    start = len(model.asked)
    forks.record(*agent("openai_stateful", stream=False))
    assert "previous_response_id" in model.asked[start + 2].body
    before = len(model.asked)
    assert forks.unspool("fork", "last@call:3", "--run", "--yes").code == 0
    first, second = model.asked[before:]
    assert "previous_response_id" not in first.body
    kinds = [item.get("type", "message") for item in first.body["input"]]
    assert kinds == ["message", *(["message", "function_call", "function_call_output"] * 2)]
    # What this run itself has made is there, and is leaned on as the program does.
    assert second.body["previous_response_id"]


# --- the demo --------------------------------------------------------------------------------------------------------


def test_the_demo_is_mended_by_a_system_prompt(demo: Forks) -> None:
    original = demo.reader("last")
    prompt = (
        "You are the support desk. Take no rate that is stale. Close with one line ANSWER: refund <amount> <currency>."
    )
    done = demo.unspool("fork", "last@call:6", "--set-system", prompt, "--run", "--live-tools", "*")
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == RIGHT
    made = demo.reader("last-fork")
    assert made.metadata.parent == original.record_id
    assert made.metadata.forked_at == _snapshot(original, 6)
    assert made.record_id in done.stderr.decode()
    # A recording as any other: all calls are in it, and it is forked again.
    snapshots = events_of(made, RecordEventType.CONTEXT_SNAPSHOT)
    assert [event.call for event in snapshots] == list(range(1, len(snapshots) + 1))
    # The conversations beside the edited one have their own prompts: triage before, the letter after.
    contexts = [made.context_at(event.seq_num) for event in snapshots]
    prompts = [context.system_prompt for context in contexts]
    assert [text == prompt for text in prompts] == [False] * 5 + [True] * (len(prompts) - 6) + [False]
    rerun = demo.unspool("rerun", made.record_id)
    assert rerun.code == 0, rerun.stderr.decode()
    again = demo.unspool("fork", f"{made.record_id}@call:7", "--set-response", "ANSWER: none", "--run", "--yes")
    assert again.code == 0, again.stderr.decode()
    assert answer_line(again) == "ANSWER: none"


def test_a_sub_agent_is_forked(demo: Forks) -> None:
    """The point is in a recording of its own; the program that is run is that of the whole tree."""
    parent = demo.reader("last")
    said = "Broken: keyboard. The carrier says so."
    done = demo.unspool("fork", f"{parent.metadata.pid + 1}@call:3", "--set-response", said, "--run", "--yes")
    assert done.code == 0, done.stderr.decode()
    assert "(249.00 + 120.00) * 1.25" in done.stdout.decode()
    assert demo.reader("last-fork").metadata.parent == parent.record_id


def test_the_demo_is_mended_by_a_tool_result(demo: Forks) -> None:
    reader = demo.reader("last")
    call = call_id_of(reader, 10, "2018-02-01")
    rate = json.dumps({"pair": "EUR/USD", "rate": 1.08, "as_of": "2026-03-14", "source": "archive"})
    done = demo.unspool("fork", "last@call:10", "--tool-result", f"{call}={rate}", "--run", "--yes", "--json")
    assert done.code == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert RIGHT in done.stderr.decode()  # the program's output is not mixed with the JSON
    (one,) = document["forks"]
    assert one["status"] == "forked"
    assert one["served"] == 9  # eight calls and a retry; those of the second agent are in its tool call
    assert one["live"] >= 2
    assert one["cost_usd"] > 0


def test_the_demo_is_mended_by_a_response(demo: Forks) -> None:
    asks = json.dumps([{"name": "exchange_rate", "arguments": {"base": "EUR", "quote": "USD", "date": "2026-03-14"}}])
    done = demo.unspool(
        "fork", "last@call:10", "--set-response", asks, "--run", "--live-tools", "exchange_rate,calculate"
    )
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == RIGHT


# --- limits and leave ------------------------------------------------------------------------------------------------


def test_tools_behind_the_fork_are_refused_where_nobody_can_be_asked(forks: Forks) -> None:
    forks.record(*agent("openai_chat", stream=False))
    done = forks.unspool("fork", "last@call:2", "--run")
    assert done.code == 3
    assert "price of pear" not in done.lines
    assert "--live-tools" in done.stderr.decode()


def test_the_number_of_live_calls_is_limited(forks: Forks, model: Model) -> None:
    forks.record(*agent("openai_chat", stream=False))
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:2", "--run", "--yes", "--max-calls", "2")
    assert done.code == 3
    assert len(model.asked) == before + 2
    assert "--max-calls" in done.stderr.decode()


def test_the_cost_of_live_calls_is_limited(forks: Forks, model: Model, tmp_path: Path) -> None:
    forks.record(*agent("anthropic", stream=False))
    before = len(model.asked)
    unknown = forks.unspool("fork", "last@call:2", "--run", "--yes", "--max-cost", "1")
    assert unknown.code == 2
    assert b"no price is known for anthropic/m" in unknown.stderr
    prices = tmp_path / "prices.toml"
    prices.write_text('["m"]\ninput = 10000\noutput = 10000\n')
    ask = ("fork", "last@call:2", "--run", "--yes", "--prices", str(prices))
    done = forks.unspool(*ask, "--max-cost", "0.5")
    assert done.code == 3
    assert len(model.asked) == before + 1
    assert "the limit is $0.5 (--max-cost)" in done.stderr.decode()
    assert forks.unspool(*ask, "--max-cost", "100").code == 0
    # Together, over several forks.
    several = json.loads(forks.unspool(*ask, "--max-cost", "3", "-n", "20", "--json").stdout)
    assert 1 <= len(several["forks"]) < 20
    assert "--max-cost 3" in several["stopped"] or several["forks"][-1]["status"] == "diverged"


def test_several_forks(forks: Forks, model: Model) -> None:
    forks.record(*agent("openai_chat", stream=False))
    done = forks.unspool("fork", "last@call:3", "--run", "--yes", "-n", "3")
    assert done.code == 0, done.stderr.decode()
    assert [line for line in done.lines if line.startswith("ANSWER")] == ["ANSWER: 12 coins"] * 3
    assert done.stderr.count(b"unspool: forked") == 3


def test_the_debugger_edits_sends_and_runs(forks: Forks, model: Model) -> None:
    forks.record(*agent("openai_chat", stream=False))
    commands = "goto call:4\nedit prompt Say it in euro.\nfork\nsend\nrun\nedit drop\nsend\nedit tool nothing x\n"
    done = subprocess.run(
        [sys.executable, "-m", "unspool", "replay", "last", "--json", "--store", str(forks.store)],
        env=forks.env,
        input=commands,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1  # the last command
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reply["ok"] for reply in replies] == [True] * 7 + [False]
    _, edited, shown, sent, ran, dropped, again, wrong = replies
    assert edited["data"]["context"]["system_prompt"] == "Say it in euro."
    assert shown == edited
    assert sent["data"]["samples"][0]["answer"]["text"] == "12 euro"
    assert ran["data"]["forks"][0]["status"] == "forked"
    assert "ANSWER: 12 euro" in done.stderr
    assert not dropped["data"]["applied"]
    assert again["data"]["samples"][0]["answer"]["text"] == "12 coins"
    assert "no message before this point is the result of call 'nothing'" in wrong["error"]["message"]


# --- without running -------------------------------------------------------------------------------------------------


def test_a_dry_run_needs_no_server(tmp_path: Path) -> None:
    with ModelServer(Model()) as server:
        forks = Forks(tmp_path / "store", environment(None, TEST_URL=server.url, **_no_proxy()))
        forks.record(*agent("anthropic", stream=False))
    done = forks.unspool("fork", "last@call:2", "--set", "temperature=0", "--model", "m2", "--dry-run", "--json")
    assert done.code == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert json.loads(document["request"]["body"])["temperature"] == 0
    assert document["request"]["url"] == f"{server.url}/v1/messages"
    assert "REDACTED" in dict(document["request"]["headers"]).values()
    assert b"sk-0" not in done.stdout
    changed = [line for line in document["request_diff"] if line.startswith(("+ ", "- "))]
    assert any('"m2"' in line for line in changed)
    text = forks.unspool("fork", "last@call:2", "--dry-run").stdout.decode()
    assert "Same as the recorded request." in text


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("sdk", SDKS)
def test_one_call_is_sent_and_its_answer_stands_beside_the_recorded_one(
    library: Callable[[str, bool], Forks], model: Model, sdk: str, stream: bool
) -> None:
    forks = library(sdk, stream)
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:4", "--set-system", "In euro.", "--send", "-n", "2", "--json")
    assert done.code == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert document["recorded"]["text"] == "12 coins"
    assert [sample["answer"]["text"] for sample in document["samples"]] == ["12 euro"] * 2
    assert len(model.asked) == before + 2
    text = forks.unspool("fork", "last@call:4", "--send").stdout.decode()
    assert "as the recorded answer" in text


def test_nothing_is_sent_without_a_key(forks: Forks, model: Model) -> None:
    forks.record(*agent("openai_chat", stream=False))
    before = len(model.asked)
    done = forks.unspool("fork", "last@call:2", "--send", OPENAI_API_KEY="")
    assert done.code == 2
    assert b"OPENAI_API_KEY" in done.stderr
    assert len(model.asked) == before
    named = forks.unspool("fork", "last@call:2", "--send", "--key-env", "MY_KEY", OPENAI_API_KEY="", MY_KEY="k")
    assert named.code == 0, named.stderr.decode()


def test_points_that_are_no_call(forks: Forks) -> None:
    reader = forks.record(*agent("openai_chat", stream=False))
    tool_event = next(
        event for event in reader.events() if event.syscall is not None and event.syscall.syscall == "ToolCall"
    )
    done = forks.unspool("fork", f"last@{tool_event.seq_num}")
    assert done.code == 0
    assert "no model call: the fork is at #" in done.stdout.decode()
    early = forks.unspool("fork", "last@1")
    assert early.code == 1
    assert "no model call at or before #001" in early.stderr.decode()
    assert forks.unspool("fork", "last").code == 2


@pytest.mark.parametrize("variable", ["VISUAL", "EDITOR"])
def test_an_edited_document(forks: Forks, tmp_path: Path, variable: str) -> None:
    forks.record(*agent("anthropic", stream=False))
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "text = path.read_text()\n"
        "path.write_text(text.replace('You add prices.', 'You add prices in euro.'))\n"
    )
    command = f"{sys.executable} {editor}"
    others = {"VISUAL": "", "EDITOR": ""}
    done = forks.unspool("fork", "last@call:3", "--edit", "--run", "--yes", **{**others, variable: command})
    assert done.code == 0, done.stderr.decode()
    assert answer_line(done) == "ANSWER: 12 euro"
    unchanged = forks.unspool("fork", "last@call:3", "--edit", **{**others, variable: "true"})
    assert unchanged.code == 0
    assert b"nothing changed" in unchanged.stderr
    editor.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\npath.write_text('=== 1 user\\nx\\n=== 99 user\\n')\n"
    )
    broken = forks.unspool("fork", "last@call:3", "--edit", TMPDIR=str(tmp_path), **{**others, variable: command})
    assert broken.code == 2
    kept = re.search(r"(\S+), line 3: there is no message 99", broken.stderr.decode())
    assert kept is not None, broken.stderr.decode()
    assert Path(kept[1]).read_text().startswith("=== 1 user")
    assert os.stat(kept[1]).st_mode & 0o077 == 0
