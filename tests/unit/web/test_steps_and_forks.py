"""Texts of steps to their end, forks offered only where they can be made, and errors in plain words with a way back."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from unspool.cli.prices import Prices
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    HttpRequest,
    HttpResponse,
    LLMResponseData,
    Part,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
    ToolDef,
)
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.web.app import create_app
from unspool.web.forkjobs import Jobs
from unspool.web.guard import Door
from unspool.web.jobpage import job_page
from unspool.web.links import PageLinks
from unspool.web.wholetexts import MISSING, find_places, texts_of

TOKEN = "a-token-of-the-tests"
DOOR = Door("127.0.0.1", 4848, TOKEN, forking=True)
URL = "https://api.openai.com/v1/chat/completions"
LONG = "".join(f"line {number} of what the tool said\n" for number in range(2_000))
END = "and this is the very END of it"


@pytest.fixture
def forker(store):
    """A browser in which forks can be made."""
    client = TestClient(
        create_app(store, Prices(), DOOR, Jobs(store)), base_url="http://127.0.0.1:4848", follow_redirects=False
    )
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


def main_of(page: str) -> str:
    return html.unescape(page.partition("<main")[2].partition("</main>")[0])


def link(page: str, text: str) -> str:
    """Where the first link goes whose text begins so."""
    found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{re.escape(text)}', page)
    assert found is not None, text
    return html.unescape(found[1])


def tool_event(pid: int, path: str, given: Any, result: Any, err: str = "", at: int = 5) -> RecordEvent:
    data = SyscallEventData("ToolCall", {"path": path, "input": given}, result, err, 1_000_000)
    return RecordEvent(RecordEventType.SYSCALL, 0, at, pid, syscall=data)


@pytest.fixture
def tool_step(store):
    """Makes a recording of one tool call; gives the path of its step."""

    def make(given: Any = None, result: Any = None, err: str = "") -> str:
        with Recorder(store.records, store.next_pid(), "a run") as recorder:
            recorder.write_event(tool_event(recorder.pid, "/dev/tool/read", given, result, err))
            return f"/run/{recorder.record_id}/step/1"

    return make


@pytest.fixture
def forkable(store):
    """Makes a recording of model calls that were sent over HTTP, each with a tool that fails before the next."""

    def make(calls: int = 2) -> str:
        with Recorder(store.records, store.next_pid(), "a run") as recorder:
            for number in range(1, calls + 1):
                _http_call(recorder, number)
                recorder.write_event(
                    tool_event(recorder.pid, "/dev/tool/search", {"q": "x"}, None, "no network", number * 9)
                )
            _http_call(recorder, calls + 1)
            return recorder.record_id

    return make


def _http_call(recorder: Recorder, number: int) -> None:
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"question {number} " + "x" * 200}]}
    request = HttpRequest(method="POST", url=URL, headers=[("authorization", "Bearer REDACTED")])
    data = ContextSnapshotData(provider="openai_chat", model="gpt-4.1-mini", request=request)
    event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number * 9 - 5, recorder.pid, context=data)
    call, _ = recorder.write_request(event, json.dumps(body).encode(), "messages")
    syscall = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/gpt-4.1-mini"}, None, "", 2)
    recorder.write_event(
        RecordEvent(RecordEventType.SYSCALL, 0, number * 9 - 5, recorder.pid, syscall=syscall, call=call.call)
    )
    said = LLMResponseData("gpt-4.1-mini", 100, 10)
    said.response = HttpResponse(status=200, headers=[("content-type", "application/json")])

    def prepare(bodies: Any) -> None:
        message = {"role": "assistant", "content": f"answer {number} " + "y" * 200}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        said.response.body = bodies.put(json.dumps({"choices": choices}).encode(), is_json=True)
        bodies.heads.store(said.response)

    answer = RecordEvent(RecordEventType.LLM_RESPONSE, 0, number * 9 - 3, recorder.pid, llm=said, call=call.call)
    recorder.write_with_bodies(answer, prepare)


def without_lines(folder: Path, *holding: str) -> None:
    """Take lines that hold a text out of a recording's pool, as damage to the file does."""
    pool = folder / "messages.jsonl"
    lines = pool.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not any(text in line for text in holding)]
    assert len(kept) < len(lines)
    pool.write_text("".join(kept))


# --- texts to their end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["given", "result", "error"])
def test_a_text_that_is_cut_off_is_a_link_away_to_its_end(browser, tool_step, which):
    path = tool_step(**{{"error": "err"}.get(which, which): LONG + END})
    page = browser.get(path).text
    assert END not in page
    assert "more characters" in page
    address = link(page, "the whole text")
    assert address == f"{path}/text/{which}"
    whole = browser.get(address)
    assert whole.text == LONG + END
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["content-security-policy"] == "sandbox"
    assert whole.headers["x-content-type-options"] == "nosniff"


def test_a_value_is_given_to_its_end_as_it_is_laid_out(browser, tool_step):
    path = tool_step(given={"a": ["x" * 30_000, END]})
    assert END not in browser.get(path).text.partition("as JSON")[0]
    assert json.loads(browser.get(f"{path}/text/given").text) == {"a": ["x" * 30_000, END]}


def test_markup_in_a_whole_text_stays_text(browser, tool_step):
    path = tool_step(result="<script>alert(1)</script>\ud800\u202e")
    whole = browser.get(f"{path}/text/result")
    assert whole.headers["content-type"].startswith("text/plain")
    assert whole.text == "<script>alert(1)</script>\\ud800\u202e"


def test_the_event_with_all_its_texts_is_behind_a_link(browser, tool_step):
    path = tool_step(result=LONG + END)
    page = browser.get(path).text
    event = json.loads(browser.get(link(page, "with all its texts")).text)
    assert event["syscall"]["result"] == LONG + END


def test_every_text_of_a_model_call_is_there_in_full(browser, store):
    calls = [ToolCall("search", json.dumps({"q": "z" * 21_000 + END}), "c1")]
    messages = [
        CtxMessage("user", LONG + END),
        CtxMessage("assistant", "", tool_calls=calls),
        CtxMessage("user", "look", parts=[Part("document", data={"inside": "d" * 900 + END})]),
    ]
    context = ContextSnapshotData(
        messages=list(messages), system_prompt=LONG + "the rules " + END, provider="openai_chat", model="m",
        tools=[ToolDef("search", "s" * 4_000 + END, {"type": "object"})], params={"stop": "p" * 300 + END},
    )  # fmt: skip
    answer = LLMResponseData("m", 1, 1, text=LONG + "said " + END, reasoning=LONG + "thought " + END)
    asked = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/m"}, None, "", 4)
    with Recorder(store.records, store.next_pid(), "a run") as recorder:
        for event in (
            RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 1, 1, context=context, call=1, step=1),
            RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=asked, call=1, step=1),
            RecordEvent(RecordEventType.LLM_RESPONSE, 0, 5, 1, llm=answer, call=1, step=1),
        ):
            recorder.write_event(event)
        path = f"/run/{recorder.record_id}/step/2"
    page = browser.get(path).text
    assert END not in page
    addresses = set(re.findall(r'href="([^"]*/text/[^"]*)"', page))
    names = {address.rpartition("/")[2] for address in addresses}
    wanted = {"system", "answer", "reasoning", "message-1", "message-2", "message-3", "tool-1", "params"}
    assert names == wanted | {"event"}
    for name in wanted:
        assert END in browser.get(f"{path}/text/{name}").text, name
    assert browser.get(f"{path}/text/message-1").text == LONG + END
    assert browser.get(f"{path}/text/answer").text == LONG + "said " + END


def test_a_text_that_is_not_there_is_said_so_with_the_way_back(browser, tool_step):
    path = tool_step(result="short")
    answer = browser.get(f"{path}/text/message-7")
    assert answer.status_code == 404
    assert link(answer.text, "Back to the step") == path
    assert link(answer.text, "Its run") == path.partition("/step")[0]


def test_what_a_difference_leaves_out_is_behind_links(browser, store):
    def call(number: int, text: str, prev: int | None) -> RecordEvent:
        messages: list[CtxMessage | str] = [CtxMessage("system", "be brief"), CtxMessage("user", text)]
        data = ContextSnapshotData(messages=messages, provider="openai_chat", model="m", prev=prev)
        return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=data, call=number, step=number)

    with Recorder(store.records, store.next_pid(), "a run") as recorder:
        first = recorder.write_event(call(1, LONG + "one", None))
        second = recorder.write_event(call(2, LONG + "two", first))
        path = f"/run/{recorder.record_id}/step"
    page = browser.get(f"{path}/{second}/diff").text
    assert "characters unchanged" in page
    assert browser.get(link(page, "the whole text before")).text == LONG + "one"
    assert browser.get(link(page, "the whole text after")).text == LONG + "two"


# --- a text that was looked for --------------------------------------------------------------------------------------


def test_a_text_found_beyond_the_cut_is_shown_where_it_stands(browser, tool_step):
    tool_step(result=LONG + "a rare <b>Ptarmigan</b> sits here " + END)
    listed = browser.get("/", params={"q": "PTARMIGAN</b> sits"}).text
    address = re.search(r'<div class="found">[^<]*<a href="([^"]*)"', listed)
    assert address is not None
    page = browser.get(html.unescape(address[1])).text
    assert 'id="found"' in page
    assert "a rare &lt;b&gt;<mark>Ptarmigan&lt;/b&gt; sits</mark> here" in page
    assert "END" in browser.get(link(page, "its result")).text


def test_a_page_without_a_search_has_no_such_place(browser, tool_step):
    assert 'id="found"' not in browser.get(tool_step(result="x")).text


@pytest.mark.parametrize(
    ("text", "wanted", "hit"),
    [
        ("die Straße ist lang", "STRASSE ist", "Straße ist"),
        ("ﬁn", "FIN", "ﬁn"),
        ("before\nafter", "e\na", "e\na"),
        ('{"a": "say \\"hi\\""}', 'say "hi"', 'say \\"hi\\"'),
        ("İstanbul", "stanbul", "stanbul"),
    ],
)
def test_the_place_is_found_in_any_case(store, tool_step, text, wanted, hit):
    path = tool_step(result=text)
    with RecordReader(store.records / path.split("/")[2]) as reader:
        found = find_places(reader, 1, wanted)
    assert [one.hit for one in found] == [hit]
    assert (found[0].before + found[0].hit + found[0].after) == text


def test_nothing_found_is_said(browser, tool_step):
    assert "It stands in none of the texts" in browser.get(tool_step(result="x") + "?find=ptarmigan").text


# --- what is missing -------------------------------------------------------------------------------------------------


def test_a_result_that_the_pool_has_lost_is_said_to_be_missing(browser, store, tool_step):
    path = tool_step(given={"text": "g" * 2_000, "kept": {"$ref": "a value of the program"}}, result="r" * 2_000)
    record_id = path.split("/")[2]
    without_lines(store.records / record_id, "g" * 2_000, "r" * 2_000)
    page = main_of(browser.get(path).text)
    shown = page.partition("as JSON")[0]
    assert MISSING in shown
    assert shown.count("$ref") == 1
    assert "a value of the program" in shown
    row = next(one for one in browser.get(f"/run/{record_id}.json").json()["steps"]["rows"] if one["kind"] == "tool")
    assert row["said"] == MISSING
    with RecordReader(store.records / record_id) as reader:
        texts = {one.name: one.text for one in texts_of(reader, 1)}
    assert texts["result"] == MISSING
    assert json.loads(texts["given"]) == {"text": MISSING, "kept": {"$ref": "a value of the program"}}


def test_an_answer_that_the_pool_has_lost_is_said_to_be_missing(browser, store, forkable):
    record_id = forkable(calls=1)
    without_lines(store.records / record_id, "y" * 200)
    rows = browser.get(f"/run/{record_id}.json").json()["steps"]["rows"]
    first = next(one for one in rows if one["kind"] == "llm")
    assert "the answer is missing from the recording" in first["said"]
    page = browser.get(first["href"]).text
    assert "What the model said is missing from the recording" in page


# --- forks where they can be made ------------------------------------------------------------------------------------


def test_a_fork_is_offered_where_it_can_be_made(forker, forkable):
    record_id = forkable()
    run = forker.get(f"/run/{record_id}").text
    assert "Fork from here" in run
    assert "No fork can be made" not in run
    rows = forker.get(f"/run/{record_id}.json").json()["steps"]["rows"]
    for row in rows:
        if row["kind"] in ("llm", "tool"):
            page = forker.get(row["href"]).text
            assert 'id="fork-here"' in page
            assert "No fork can be made" not in page
            assert forker.get(link(page, "Fork"), follow_redirects=True).status_code == 200


def test_of_a_run_without_requests_no_fork_is_offered(forker, record):
    record_id = record(err="it broke", calls=3)
    for view in ("", "/blame"):
        page = forker.get(f"/run/{record_id}{view}").text
        assert "it broke" in page
        assert "Fork from here" not in page
        assert page.count("No fork can be made here") == 1
        assert "/fork" not in page.replace("/fork.css", "")
    for row in forker.get(f"/run/{record_id}.json").json()["steps"]["rows"]:
        if row["kind"] not in ("llm", "tool"):
            continue
        views = ("", "/diff", "/context") if row["kind"] == "llm" else ("",)
        for view in views:
            page = forker.get(row["href"] + view).text
            assert 'id="fork-here"' not in page
            assert page.count("No fork can be made here") == 1
            assert "unspool fork" not in page


def test_of_a_call_whose_request_is_damaged_no_fork_is_offered(forker, store, forkable):
    record_id = forkable(calls=2)
    without_lines(store.records / record_id, "question 2 ")
    run = forker.get(f"/run/{record_id}").text
    assert run.count("Fork from here") == 1  # the second tool call: its result went into the third request
    assert run.count("No fork can be made here") == 1
    rows = [one for one in forker.get(f"/run/{record_id}.json").json()["steps"]["rows"] if one["kind"] == "llm"]
    offered = ['id="fork-here"' in forker.get(one["href"]).text for one in rows]
    assert offered == [True, False, True]


def test_a_tool_call_that_nobody_was_told_of_cannot_be_forked(forker, tool_step):
    page = forker.get(tool_step(result="x")).text
    assert "the model was asked nothing after this tool call" in page
    assert 'id="fork-here"' not in page


def test_where_forking_is_off_nothing_is_said_of_it(browser, record):
    record_id = record(err="it broke")
    assert "No fork can be made" not in browser.get(f"/run/{record_id}").text
    assert "No fork can be made" not in browser.get(f"/run/{record_id}/step/2").text


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "title", "status"),
    [
        ("/run/{id}/step/2/fork", "No fork can be made here", 400),
        ("/run/{id}/step/999", "No such step", 404),
        ("/run/{id}/step/3/request.raw", "This was not recorded", 404),
        ("/run/{id}/step/2/text/nothing", "Nothing of this kind here", 404),
        ("/run/nothing-of-this-name", "No such run", 404),
        ("/compare", "Choose two runs", 400),
        ("/compare?a={id}", "Choose two runs", 400),
        ("/fork/none", "No such fork", 404),
    ],
)
def test_errors_have_plain_titles_and_a_way_back(forker, record, path, title, status):
    record_id = record()
    asked = path.replace("{id}", record_id)
    answer = forker.get(asked)
    assert answer.status_code == status
    assert f"<h1>{title}</h1>" in answer.text
    assert f"<title>{title} · unspool</title>" in answer.text
    assert not re.search(
        r"\b(UsageError|NoSnapshot|SeqNotFound\w*|RecordingNotFound|JobNotFound|InvalidID)\b", answer.text
    )
    if record_id in asked and "compare" not in asked:
        assert link(answer.text, "Its run") == f"/run/{record_id}"
    step = re.match(r"(/run/[^/]+/step/(?!999)\d+)/", asked)
    if step is not None:
        assert link(answer.text, "Back to the step") == step[1]


def test_a_program_is_told_the_kind_of_an_error(forker, record):
    document = forker.get(f"/run/{record()}/step/999.json").json()
    assert set(document["error"]) == {"title", "message", "status"}
    assert document["error"]["title"] == "SeqNotFound"


# --- lists of steps --------------------------------------------------------------------------------------------------


def test_what_came_back_is_what_came_back(browser, tool_step):
    path = tool_step(given={"command": "act --container-architecture linux/amd64 " * 20}, result="<i>All</i>\nis well")
    page = browser.get(path.partition("/step")[0]).text
    row = page.partition(f'data-href="{path}"')[2].partition("</tr>")[0]
    assert re.findall(r'<td class="wide">(.*?)</td>', row) == ["&lt;i&gt;All&lt;/i&gt; is well"]
    [name] = re.findall(r'<td class="name">(.*?)</td>', row)
    assert "act --container-architecture" in name


# --- forks that were refused for their tools -------------------------------------------------------------------------


class Stopped:
    """A job that was stopped at a tool call."""

    name, state, code, is_cut = "j1", "failed", 3, False
    said = (
        "unspool: tools behind the fork are refused (search): there is no terminal to ask at. Allow them with "
        "--live-tools NAME, --live-tools '*', or --yes\n  stopped: tool search would run for real after the fork; "
        "allow it with --live-tools search\n"
    )

    def __init__(self, record_id: str) -> None:
        class Asked:
            mode, seq_num, root = "run", 1, record_id

        self.order = Asked()
        self.order.record_id = record_id  # type: ignore[attr-defined]

    def records(self) -> list[str]:
        return []

    def result(self) -> dict[str, Any]:
        report = {
            "what": "/dev/tool/search",
            "reason": "allow it with --live-tools search",
            "detail": {"refused": True},
        }
        return {"forks": [{"record_id": None, "status": "diverged", "divergences": [report], "notes": []}]}


def test_a_refused_tool_is_told_in_words_of_the_form(store):
    page = job_page(Stopped("1-x"), PageLinks(forking=True), store)  # type: ignore[arg-type]
    assert "--" not in page.said
    assert "terminal" not in page.said
    [fork] = page.forks
    assert "Tick “search” or “All tools may run” in the form" in fork.problems[0]
    assert "--live-tools" not in " ".join(fork.problems)
    assert page.refused == ["search"]
    assert page.allow_href == "/run/1-x/step/1/fork?again=j1&allow=%2Fdev%2Ftool%2Fsearch"


@pytest.mark.parametrize("code", [143, -15])
def test_a_stopped_fork_is_told_as_the_list_of_runs_has_it(store, code):
    job: Any = Stopped("1-x")
    job.state, job.code = "stopped", code
    assert job_page(job, PageLinks(forking=True), store).sentence == "The fork was stopped. Its exit code is 143."


def test_the_form_warns_of_tools_that_may_not_run(forker, forkable):
    record_id = forkable()
    page = forker.get(f"/run/{record_id}/step/1/fork").text
    assert "The fork stops at the first such call of a tool that is not ticked" in page
    token = re.search(r'name="form-token" value="([^"]*)"', page)
    assert token is not None
    fields = {"form-token": token[1], "do": "dry-run"}
    headers = {"origin": "http://127.0.0.1:4848"}
    dry = forker.post(f"/run/{record_id}/step/1/fork", data=fields, headers=headers).text
    assert 'id="plan-refused"' in dry
    assert "after the model was asked, which is paid for" in dry
    allowed = forker.post(f"/run/{record_id}/step/1/fork", data={**fields, "all-tools": "1"}, headers=headers).text
    assert 'id="plan-refused"' not in allowed
    assert 'id="tools-warning"' not in allowed
