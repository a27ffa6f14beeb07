"""What the pages show, and that nothing of a recording is more than text on them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from unspool.web.steps import PAGE as STEPS_PAGE

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)> "
    "\x1b[31mred\x1b[0m \u202egnp.exe\u202c \x00 "
    "</pre></code></textarea> {{ 7*7 }} {% raw %} javascript:alert(4)"
)


class _Seen(HTMLParser):
    """The tags and attributes a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def views(name):
    run = f"/run/{name}"
    return [
        "/", "/?q=hello", run, f"{run}?errors=1", f"{run}?kinds=llm,tool,agent,other", f"{run}/context", f"{run}/blame",
        f"{run}/blame?by=carried&group=tool", f"{run}/step/5", f"{run}/step/5/diff", f"{run}/step/5/context",
        f"{run}/step/8", f"/compare?a={name}&b={name}",
    ]  # fmt: skip


def test_every_view_opens(browser, record):
    name = record(err="no index")
    for address in views(name):
        answer = browser.get(address)
        assert answer.status_code == 200, (address, re.sub("<[^>]+>", "", answer.text)[-500:])


def test_every_view_is_data_too(browser, record):
    name = record(err="no index")
    for address in views(name):
        path, _, query = address.partition("?")
        answer = browser.get(f"{path if path != '/' else '/runs'}.json?{query}")
        assert answer.status_code == 200
        assert isinstance(answer.json(), dict)


def test_a_hostile_recording_is_text(browser, record):
    name = record(HOSTILE, text=HOSTILE, err=HOSTILE, model="gpt<script>")
    for address in views(name):
        answer = browser.get(address)
        assert answer.status_code == 200
        seen = _Seen()
        seen.feed(answer.text)
        assert sum(tag == "script" for tag, _ in seen.tags) == 1
        for _, attributes in seen.tags:
            assert not any(key.startswith("on") for key in attributes)
            assert not (attributes.get("href") or "").lower().startswith("javascript")
            assert not (attributes.get("src") or "x").startswith("x/")
        assert "49" not in re.findall(r"\{\{ 7\*7 \}\}|\b49\b", answer.text)
        for control in "\x00\x1b\u202e\u202c\u2066":
            assert control not in answer.text


def test_a_message_of_megabytes_does_not_make_a_page_of_megabytes(browser, record):
    name = record(text="x" * 2_000_000, calls=2)
    for address in (f"/run/{name}", f"/run/{name}/step/5", f"/run/{name}/step/5/diff", f"/run/{name}/step/5/context"):
        answer = browser.get(address)
        assert answer.status_code == 200
        assert len(answer.content) < 500_000, address


@pytest.mark.parametrize(
    ("address", "status"),
    [("/run/nothing", 404), ("/run/..%2f..%2fetc", 404), ("/nothing", 404), ("/compare", 400),
     ("/compare?a=1&b=2", 404),
     ("/static/..%2fapp.py", 404), ("/static/guard.py", 404), ("/run/1/step/0", 404)],
)  # fmt: skip
def test_what_is_not_there_has_an_error_of_one_shape(browser, address, status):
    assert browser.get(address).status_code == status
    if address.startswith("/run"):
        document = browser.get(f"{address}.json").json()
        assert set(document) == {"error"}
        assert set(document["error"]) == {"title", "message", "status"}


def test_a_step_shows_messages_with_calls_and_results_paired(browser, record):
    text = browser.get(f"/run/{record(calls=3)}/step/9").text
    assert "result in #3" in text
    assert "asked for in" in text
    assert text.count("badge new") == 2  # what the call before had not sent


def test_the_exact_bytes_are_a_download_and_never_a_page(browser, record):
    answer = browser.get(f"/run/{record()}/step/1/request.raw")
    assert answer.status_code == 404  # made by hand: there was no request
    assert "no request" in answer.text


def test_search_finds_words_of_messages_in_any_case(browser, record):
    found, other = record("one", text="a rare Ptarmigan"), record("two", text="plain")
    text = browser.get("/", params={"q": "ptarMIGAN"}).text
    assert found in text
    assert other not in text


@pytest.mark.parametrize("text", ['say "hi"', "snow \u2603 man", "back\\slash", "line\nbreak", "tab\there"])
def test_search_finds_what_json_writes_otherwise(browser, record, text):
    name = record(text=text)
    record(text="nothing of it")
    rows = browser.get("/runs.json", params={"q": text}).json()["page"]["rows"]
    assert [row["record_id"] for row in rows] == [name]


def test_the_list_is_narrowed_and_sorted(browser, record):
    small, failed, large = record("small"), record("failed", err="no index"), record("large", calls=5, model="gpt-4.1")

    def ids(**query):
        return [row["record_id"] for row in browser.get("/runs.json", params=query).json()["page"]["rows"]]

    assert ids(errors="1") == [failed]
    assert ids(model="gpt-4.1") == [large]
    assert ids(tool="search", sort="tokens")[0] == large
    assert set(ids(state="completed")) == {small, failed, large}
    assert ids(state="running") == []


def test_steps_come_in_pages(browser, record):
    name = record(calls=STEPS_PAGE)
    first, last = (browser.get(f"/run/{name}.json", params={"page": page}).json()["steps"] for page in (1, 3))
    assert first["pages"] == 3
    assert len(first["rows"]) == STEPS_PAGE
    assert last["rows"]
    seqs = [row["seq_num"] for row in first["rows"] + last["rows"]]
    assert len(seqs) == len(set(seqs))


def test_a_process_inside_a_run_leads_to_its_run(browser, record, store):
    name = record()
    assert browser.get("/run/1").headers["location"] == f"/run/{name}"


def test_what_is_missing_is_said(browser, record, store):
    name = record()
    with open(store.records / name / "events.jsonl", "r+b") as file:
        lines = file.read().splitlines(keepends=True)
        lines[2] = b'{"type": broken}\n'
        file.seek(0)
        file.truncate()
        file.writelines(lines)
    text = browser.get(f"/run/{name}").text
    assert "Not everything is here" in text
    assert "events.jsonl" in text


def test_a_page_of_a_run_that_changed_is_new(browser, record, store):
    name = record(calls=1)
    assert browser.get(f"/run/{name}.json").json()["steps"]["total"] == 3
    record("another")
    assert browser.get("/runs.json").json()["page"]["total"] == 2


def test_a_defect_in_a_template_is_a_page_and_no_traceback(browser, record, monkeypatch, caplog):
    from unspool.web import answering

    record()
    real = answering.html

    def broken(template, **context):
        if template == "runs.html":
            raise ZeroDivisionError("in a template")
        return real(template, **context)

    monkeypatch.setattr(answering, "html", broken)
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "This is a defect of unspool: ZeroDivisionError: in a template" in answer.text
    assert "Traceback" not in answer.text + caplog.text
