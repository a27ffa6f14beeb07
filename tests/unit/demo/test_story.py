"""The demo agent and the model played for it: wrong as it stands, right when either cause is repaired."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import unspool
from unspool.demo import story
from unspool.demo.agent import RIGHT_ANSWER, SUPPORT_PROMPT
from unspool.demo.script import Message, ModelRequest, Reply, ToolResult
from unspool.demo.server import ModelServer

pytest.importorskip("openai")

WRONG_ANSWER = "refund 411.25 USD"
PLANTED = "Be quick: take the first exchange rate you get and never ask for a second one.\n"
Script = Callable[[ModelRequest], Reply]


class Run:
    """The agent run as its own program, in a folder where unspool cannot be imported."""

    def __init__(self, folder: Path, script: Script, *options: str) -> None:
        assert unspool.__file__ is not None
        program = folder / "agent.py"
        program.write_text((Path(unspool.__file__).parent / "demo" / "agent.py").read_text())
        (folder / "unspool.py").write_text("raise ImportError('not installed here')\n")
        self.requests: list[ModelRequest] = []
        with ModelServer(self._noting(script), pages=story.PAGES) as server:
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            environment |= {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "x", "NO_PROXY": "127.0.0.1"}
            done = subprocess.run(
                [sys.executable, str(program), *options],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.pages = [received.path for received in server.requests if received.method == "GET"]
        self.code, self.output, self.errors = done.returncode, done.stdout, done.stderr

    def _noting(self, script: Script) -> Script:
        def noting(request: ModelRequest) -> Reply:
            self.requests.append(request)
            return script(request)

        return noting

    @property
    def answer(self) -> str:
        return self.output.splitlines()[-1].removeprefix("ANSWER: ")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("wrong"), story.play, "--check")


def test_as_it_stands_the_answer_is_wrong_and_the_check_says_so(wrong: Run) -> None:
    assert wrong.answer == WRONG_ANSWER
    assert wrong.code == 1
    assert wrong.errors == f"check: wrong, the right answer is {RIGHT_ANSWER!r}\n"


def test_what_the_demo_promises_to_contain(wrong: Run) -> None:
    """At least 12 model calls, some streamed, a retry, a sub-agent, a failing and an oversized tool, HTTP requests."""
    retried = [request for request in wrong.requests if request.retry]
    assert len(retried) == 1
    assert len(wrong.requests) - len(retried) >= 12
    assert {request.stream for request in wrong.requests} == {True, False}
    assert any("track_parcel" in {tool.name for tool in request.tools} for request in wrong.requests)
    results = [result for request in wrong.requests for _, result in request.results]
    assert any(result.text.startswith("error: TimeoutError") for result in results)
    assert 36_000 < max(len(result.text) for result in results) < 44_000
    assert wrong.pages == ["/page/carrier-report", "/page/refund-policy"]


def test_of_the_oversized_result_one_line_is_used(wrong: Run) -> None:
    [log] = {result.text for request in wrong.requests for _, result in request.results if len(result.text) > 30_000}
    said = " ".join(message.text for message in wrong.requests[-1].messages) + wrong.output
    used = [
        line for line in log.splitlines() if set(re.findall(r"ch_\w{4}", line)[:1]) & set(re.findall(r"ch_\w{4}", said))
    ]
    assert len(used) == 1


def test_a_repaired_system_prompt_gives_the_right_answer(tmp_path: Path) -> None:
    assert PLANTED in SUPPORT_PROMPT
    prompt = tmp_path / "prompt.txt"
    prompt.write_text(SUPPORT_PROMPT.replace(PLANTED, ""))
    run = Run(tmp_path, story.play, "--check", "--system-file", str(prompt))
    assert (run.answer, run.code, run.errors) == (RIGHT_ANSWER, 0, "")


def test_a_repaired_tool_result_gives_the_right_answer(tmp_path: Path) -> None:
    """The edit is made in the requests, as a fork makes it: the agent's own tool still returns the old rate."""

    def repaired(request: ModelRequest) -> Reply:
        def repair(result: ToolResult) -> ToolResult:
            return replace(result, text=result.text.replace("1.25", "1.08").replace("2018-02-01", "2026-03-14"))

        messages = tuple(
            replace(message, tool_results=tuple(map(repair, message.tool_results))) for message in request.messages
        )
        return story.play(replace(request, messages=messages))

    run = Run(tmp_path, repaired, "--check")
    assert (run.answer, run.code) == (RIGHT_ANSWER, 0)


def test_other_facts_give_another_answer(tmp_path: Path) -> None:
    """The story computes; it does not recite."""

    def without_duplicate(request: ModelRequest) -> Reply:
        def drop(result: ToolResult) -> ToolResult:
            return replace(result, text=result.text.replace("duplicate_of=", "same_as="))

        messages: tuple[Message, ...] = tuple(
            replace(message, tool_results=tuple(map(drop, message.tool_results))) for message in request.messages
        )
        return story.play(replace(request, messages=messages))

    assert Run(tmp_path, without_duplicate).answer == "refund 100.00 USD"


def test_two_runs_send_the_same_requests(wrong: Run, tmp_path: Path) -> None:
    again = Run(tmp_path, story.play)
    assert [request.body for request in again.requests] == [request.body for request in wrong.requests]


@pytest.mark.parametrize(
    ("addition", "is_bound"),
    [
        ("", True),
        ("Reject a rate older than a month.", False),
        ("Use the rate of the day of purchase.", False),
    ],
)
def test_other_ways_to_repair_the_prompt(addition: str, is_bound: bool) -> None:
    assert story._must_take_first(SUPPORT_PROMPT + addition) is is_bound
