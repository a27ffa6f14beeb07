"""The form of a fork: what it shows, what it takes, and that the command is told the same as the page showed."""

from __future__ import annotations

import html
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from unspool.cli.main import cli
from unspool.cli.prices import Prices
from unspool.events import ContextSnapshotData, HttpRequest, HttpResponse, LLMResponseData, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.web.app import create_app
from unspool.web.forkdraft import LONGEST, open_desk, shown, typed, work_out
from unspool.web.forkform import read_form
from unspool.web.forkjobs import Jobs
from unspool.web.guard import Door

TOKEN = "a-token-of-the-tests"
DOOR = Door("127.0.0.1", 4848, TOKEN, forking=True)
URL = "https://api.openai.com/v1/chat/completions"
CALLS = [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "rate"}'}}]
MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the rate?"},
    {"role": "assistant", "content": "I look.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "c1", "content": "1.25, of 2018"},
]


@pytest.fixture
def recorded(store):
    """Makes a recording of one model call; gives the path of its form."""

    def make(messages: list[dict[str, Any]] | None = None, system: str = "Be quick.", **params: Any) -> str:
        body = {
            "model": "gpt-4.1-mini",
            "messages": [{"role": "system", "content": system}, *(MESSAGES if messages is None else messages)],
            **params,
        }
        with Recorder(store.records, store.next_pid(), "a run") as recorder:
            request = HttpRequest(method="POST", url=URL, headers=[("authorization", "Bearer REDACTED")])
            data = ContextSnapshotData(provider="openai_chat", model="gpt-4.1-mini", request=request)
            event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, recorder.pid, context=data)
            call, _ = recorder.write_request(event, json.dumps(body).encode(), "messages")
            said = LLMResponseData("gpt-4.1-mini", 100, 10)
            said.response = HttpResponse(status=200, headers=[("content-type", "application/json")])

            def prepare(bodies: Any) -> None:
                choice = {"index": 0, "message": {"role": "assistant", "content": "125 USD"}, "finish_reason": "stop"}
                said.response.body = bodies.put(json.dumps({"choices": [choice]}).encode(), is_json=True)
                bodies.heads.store(said.response)

            answer = RecordEvent(RecordEventType.LLM_RESPONSE, 0, 9, recorder.pid, llm=said, call=call.call)
            recorder.write_with_bodies(answer, prepare)
            return f"/run/{recorder.record_id}/step/{call.seq_num}/fork"

    return make


@pytest.fixture
def forker(store):
    """A browser in which forks can be made."""
    client = TestClient(
        create_app(store, Prices(), DOOR, Jobs(store)), base_url="http://127.0.0.1:4848", follow_redirects=False
    )
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


@pytest.fixture
def post(forker):
    """Posts a form as a browser does: line ends as CRLF."""

    def do(path: str, what: str, fields: dict[str, Any] | None = None, **more: str) -> Any:
        given = {"do": what, "form-token": DOOR.form_token, **(fields or {}), **more}
        body = urlencode({name: str(value).replace("\n", "\r\n") for name, value in given.items()})
        headers = {"origin": "http://127.0.0.1:4848", "content-type": "application/x-www-form-urlencoded"}
        return forker.post(path, content=body, headers=headers)

    return do


def area(text: str, name: str) -> str:
    """What a text field of a page holds."""
    found = re.search(rf'<textarea id="{name}"[^>]*>\n(.*?)</textarea>', text, re.S) or re.search(
        rf'<textarea [^>]*id="{name}"[^>]*>\n(.*?)</textarea>', text, re.S
    )
    assert found, name
    return html.unescape(found[1])


def desk_of(store, path: str):
    record_id, seq = re.fullmatch(r"/run/(.*)/step/(\d+)/fork", path).groups()
    reader = RecordReader(store.records / record_id)
    return reader, open_desk(reader, int(seq)), f"{record_id}@{seq}"


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_the_form_shows_the_call_and_its_elements_have_their_names(forker, recorded):
    page = forker.get(recorded(temperature=0.5)).text
    for name in ("fork-form", "dry-run", "run-fork", "send-once", "system", "model", "param-temperature", "response"):
        assert f'id="{name}"' in page
    assert area(page, "system") == "Be quick."
    assert area(page, "response") == "125 USD"
    assert 'value="0.5"' in page
    assert 'id="m3"' in page
    assert "calls search" in page
    assert page.count("<script") == 2
    assert "<style" not in page
    assert " style=" not in page


def test_a_page_with_a_form_lets_the_browser_say_where_a_form_comes_from(forker, recorded):
    path = recorded()
    assert forker.get(path).headers["referrer-policy"] == "same-origin"
    assert forker.get("/").headers["referrer-policy"] == "no-referrer"


def test_a_big_context_makes_a_small_page_and_each_text_is_had_by_itself(forker, recorded):
    texts = [f"message {number} " + "x" * 20_000 for number in range(400)]
    path = recorded([{"role": "user", "content": text} for text in texts])
    page = forker.get(path)
    assert len(page.content) < 200_000
    assert 'id="m400"' in page.text
    assert 'id="m1"' not in page.text
    assert forker.get(f"{path}/text/1").json() == {"text": texts[0]}
    assert forker.get(f"{path}/text/400").json() == {"text": texts[399]}
    assert forker.get(f"{path}/text/401").status_code == 404


def test_earlier_messages_come_by_a_button_and_stay_unchanged_without(post, recorded):
    path = recorded([{"role": "user", "content": f"m {number}"} for number in range(300)])
    more = post(path, "earlier", {"shown-from": 181})
    assert 'id="m1"' in more.text
    dry = post(path, "dry-run", {"shown-from": 181, "text-300": "other"})
    assert "message 300 (user) replaced" in dry.text
    assert "299 unchanged" in dry.text


def test_what_is_too_long_for_a_page_says_so_and_can_still_be_left_out(forker, post, recorded):
    path = recorded([{"role": "user", "content": "x" * (LONGEST + 1)}, {"role": "user", "content": "y"}])
    page = forker.get(path).text
    assert "too many for a page" in page
    assert 'id="remove-1"' in page
    assert forker.get(f"{path}/text/1").status_code == 400
    assert "message 1 (user) removed" in post(path, "dry-run", {"remove": 1}).text


def test_everything_from_the_recording_is_escaped(forker, post, recorded):
    evil = '</textarea><script>alert(1)</script>\u202e\x1b[31m"'
    path = recorded([{"role": "user", "content": evil}], evil, user=evil, stop=evil)
    for page in (forker.get(f"{path}?open=1"), post(path, "dry-run", {"system": evil + "!", "text-1": evil * 2})):
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "\x1b" not in page.text
        assert "\u202e" not in page.text


def test_a_recording_without_its_request_says_why_it_cannot_be_forked(forker, record):
    answer = forker.get(f"/run/{record()}/step/1/fork")
    assert answer.status_code == 400
    assert "is not recorded, only its messages" in html.unescape(answer.text)


def test_a_call_that_leans_on_state_at_the_provider_can_go_out_as_it_is(forker, post, store):
    body = {"model": "gpt-5", "previous_response_id": "resp_9", "input": [{"role": "user", "content": "and now?"}]}
    with Recorder(store.records, store.next_pid(), "a run") as recorder:
        request = HttpRequest(method="POST", url="https://api.openai.com/v1/responses", headers=[])
        data = ContextSnapshotData(provider="openai_responses", model="gpt-5", request=request)
        event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, recorder.pid, context=data)
        call, _ = recorder.write_request(event, json.dumps(body).encode(), "input")
        path = f"/run/{recorder.record_id}/step/{call.seq_num}/fork"
    page = forker.get(path).text
    assert "resp_9" in page
    assert re.search(r'name="keep-state"[^>]*checked', page)
    assert forker.get(f"{path}/text/1?keep-state=1").json() == {"text": "and now?"}
    dry = post(path, "dry-run", {"keep-state": "1", "text-1": "and then?"}).text
    assert "message 1 (user) replaced" in dry
    assert 'id="fork-error"' not in dry


def test_where_forking_is_off_there_is_no_way_to_it(browser, recorded):
    path = recorded()
    assert browser.get(path).status_code == 403
    assert browser.get("/fork").status_code == 403
    assert "fork-here" not in browser.get(path.removesuffix("/fork")).text


def test_where_forking_is_on_every_view_of_a_step_leads_to_it(forker, recorded):
    path = recorded()
    step = path.removesuffix("/fork")
    for view in ("", "/diff", "/context"):
        page = forker.get(f"{step}{view}").text
        if "fork-here" not in page:  # it is being worked out
            assert view == "/context", page
            continue
        assert re.search(rf'<a id="fork-here" data-key="f" href="{re.escape(path)}"', page)


# --- what it takes ---------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_exact_difference_and_keeps_what_was_typed(post, recorded):
    path = recorded(temperature=1)
    fields = {
        "system": "Be careful.\nTake your time.",
        "text-3": "1.08, of 2026",
        "new-after-1": 3,
        "new-role-1": "user",
        "new-text-1": "And the date?",
        "model": "gpt-4.1",
        "param.temperature": "0",
        "more-params": "top_p=0.5",
        "max-calls": "7",
    }
    page = post(path, "dry-run", fields)
    assert page.status_code == 200
    for said in ("nothing was sent", "<del>quick", "message 3 (tool of c1) replaced", "temperature", "top_p",
                 "at most 7 live model calls", "no limit of cost"):  # fmt: skip
        assert said in page.text, said
    assert '+      "content": "And the date?"' in html.unescape(page.text)
    assert area(page.text, "system") == "Be careful.\nTake your time."
    assert area(page.text, "text-3") == "1.08, of 2026"
    assert area(page.text, "new-text-1") == "And the date?"
    assert 'value="gpt-4.1"' in page.text


def test_without_changes_it_says_so(post, recorded):
    path = recorded(temperature=1, response_format={"type": "json_object"})
    fields = {"system": "Be quick.", "text-1": "What is the rate?", "model": "gpt-4.1-mini", "param.temperature": "1",
              "param.response_format": '{"type":"json_object"}', "response": "125 USD"}  # fmt: skip
    page = post(path, "dry-run", fields)
    assert "Nothing is changed" in page.text
    assert "The same as the recorded request" in page.text


def test_messages_are_left_out_and_a_call_takes_its_result_along(post, recorded):
    page = post(recorded(), "dry-run", {"remove": 2})
    assert "message 2 (assistant) removed" in page.text
    assert "#3 removed" in page.text


def test_a_parameter_that_is_emptied_goes(post, recorded):
    page = post(recorded(temperature=1), "dry-run", {"param.temperature": ""})
    assert html.unescape(page.text).count('-  "temperature": 1') == 1


def test_an_answer_is_given_with_tool_calls(post, recorded):
    given = '{"text": "once more", "tool_calls": [{"name": "search", "arguments": {"q": "today"}}]}'
    page = post(recorded(), "dry-run", {"answer-given": "1", "response": given})
    assert "nothing is sent at this call" in page.text
    assert "once more" in page.text
    assert "cannot be sent:" in page.text


def test_buttons_of_the_form_work_without_a_script(post, recorded):
    path = recorded()
    opened = post(path, "open:3", {"text-1": "changed"}).text
    assert area(opened, "text-3") == "1.25, of 2018"
    assert area(opened, "text-1") == "changed"
    added = post(path, "add:1").text
    assert 'id="new-text-1"' in added
    two = {"new-after-1": 1, "new-role-1": "user", "new-text-1": "a",
           "new-after-2": 3, "new-role-2": "assistant", "new-text-2": "b"}  # fmt: skip
    dropped = post(path, "drop:1", two).text
    assert area(dropped, "new-text-1") == "b"
    assert 'id="new-text-2"' not in dropped


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max-calls": "many"}, "whole number"),
        ({"max-cost": "-1"}, "US dollars"),
        ({"samples": "1000"}, "up to 100"),
        ({"answer-given": "1", "response": "  "}, "no text"),
        ({"answer-given": "1", "response": '{"tool_calls": [{}]}'}, "has no name"),
        ({"text-99": "x"}, "no message 99"),
        ({"more-params": "temperature"}, "KEY=VALUE"),
        ({"new-after-1": "1", "new-role-1": "tool", "new-text-1": "x"}, "cannot be added"),
        ({"base-url": "ftp://x"}, "no URL"),
        ({"key-env": "A B"}, "environment variable"),
    ],
)
@pytest.mark.parametrize("what", ["dry-run", "run", "send"])
def test_what_does_not_fit_is_said_and_what_was_typed_is_kept(post, forker, recorded, fields, said, what):
    page = post(recorded(), what, {"system": "A new prompt.", **fields})
    assert page.status_code == 200
    assert 'id="fork-error"' in page.text
    assert said in html.unescape(page.text)
    assert area(page.text, "system") == "A new prompt."
    assert "None was started yet" in forker.get("/fork").text


def test_a_program_that_is_not_recorded_is_not_run(post, forker, recorded):
    page = post(recorded(), "run")
    assert "does not say what command it was" in html.unescape(page.text)
    assert "None was started yet" in forker.get("/fork").text


def test_a_key_that_is_missing_is_named_and_nothing_is_sent(post, recorded, monkeypatch):
    path = recorded()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    page = post(path, "send")
    assert "no key for api.openai.com" in page.text
    assert 'id="fork-error"' in page.text
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    page = post(path, "dry-run")
    assert "with the key in OPENAI_API_KEY, which is set" in page.text
    assert "sk-of-the-test" not in page.text


def test_a_key_goes_nowhere_else_unless_the_user_named_the_place(post, recorded, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    page = post(recorded(), "dry-run", {"base-url": "http://elsewhere.example/v1"})
    assert "Goes to http://elsewhere.example" in page.text  # named in the form, as on the command line


def test_on_an_address_that_others_reach_no_other_server_can_be_named(store, recorded):
    jobs = Jobs(store, may_choose_server=False)
    client = TestClient(create_app(store, Prices(), DOOR, jobs), base_url="http://127.0.0.1:4848")
    client.get("/", params={"token": TOKEN})
    path = recorded()
    assert 'id="base-url"' not in client.get(path).text
    body = urlencode({"form-token": DOOR.form_token, "do": "send", "base-url": "http://elsewhere.example"})
    headers = {"origin": "http://127.0.0.1:4848", "content-type": "application/x-www-form-urlencoded"}
    assert "cannot be named here" in client.post(path, content=body, headers=headers).text


def test_a_job_that_is_not_there(forker):
    assert forker.get("/fork/0123456789abcdef").status_code == 404
    assert forker.get("/fork/0123456789abcdef/live").status_code == 404
    assert forker.get("/fork/0123456789abcdef.json").json()["error"]["status"] == 404


# --- page and command ------------------------------------------------------------------------------------------------


def test_the_command_makes_of_it_what_the_page_showed(store, recorded, tmp_path):
    last = {"role": "user", "content": "=== no heading\r\n#: no comment\r\nend\x1b"}
    half = {"role": "user", "content": "half a pair: \\ud800"}
    path = recorded([*MESSAGES, last, half], temperature=1)
    reader, desk, point = desk_of(store, path)
    with reader:
        form = read_form([
            ("system", "@/etc/hostname"), ("text-4", "=== no heading\n#: no comment\nother end"), ("remove", "1"),
            ("new-after-1", "2"), ("new-role-1", "assistant"), ("new-text-1", "--run"),
            ("param.temperature", "0"), ("model", "--json"), ("answer-given", "1"), ("response", "@/etc/hostname"),
        ])  # fmt: skip
        work = work_out(reader, desk, form)
    options = list(work.options)
    for file in work.files:
        (tmp_path / file.name).write_bytes(file.text.encode("utf-8", "surrogatepass"))
        options.append(f"{file.option}{tmp_path / file.name}")
    done = CliRunner().invoke(cli, ["fork", point, *options, "--json", "--store", str(store.path)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["applied"] == work.plan.applied
    assert told["context"]["system_prompt"] == work.plan.context.system_prompt == "@/etc/hostname"
    assert told["answer"]["text"] == "@/etc/hostname"
    assert told["context"]["model"] == "--json"
    contents = [message["content"] for message in told["context"]["messages"]]
    assert contents == [message.content for message in work.plan.context.messages]
    assert contents[1] == "--run"
    assert contents[-2] == "=== no heading\r\n#: no comment\r\nother end"


def test_no_option_names_a_file_or_a_command_of_the_form(store, recorded):
    reader, desk, _ = desk_of(store, recorded())
    with reader:
        form = read_form([
            ("answer-given", "1"), ("response", "@/etc/passwd"), ("model", "@/etc/passwd"),
            ("system", "@/etc/passwd"), ("more-params", "x=@/etc/passwd"),
        ])  # fmt: skip
        work = work_out(reader, desk, form)
    assert all(one.startswith("--") and "=" in one for one in work.options)
    assert [one for one in work.options if "=@" in one and not one.startswith(("--model=", "--set="))] == []
    assert [one.option for one in work.files] == ["--set-response=@", "--edit-file="]


# --- texts through a browser -----------------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\t\x1b\u202e"), max_size=60)


@given(_TEXTS)
def test_a_text_that_nobody_touched_is_the_recorded_one(text):
    assert typed(text, shown(text).replace("\n", "\r\n")) == text


@given(st.lists(_TEXTS, max_size=6), st.text("abc", min_size=1))
def test_lines_that_nobody_touched_keep_their_bytes(lines, new):
    plain = [re.sub(r"[\r\n]", "", line) + "·" for line in lines]
    old = "\r\n".join([*plain, "last"])
    posted = "\r\n".join([*map(shown, plain), f"last {new}"])
    assert typed(old, posted).split("\r\n") == [*plain, f"last {new}"]
