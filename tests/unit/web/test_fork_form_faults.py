"""A form with something wrong in it: nothing typed is lost, nothing is started, and what was not touched stays."""

from __future__ import annotations

import html
import json
import re
import socket
from itertools import pairwise
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from unspool.cli.main import cli
from unspool.cli.prices import Prices
from unspool.errors import StoreError, UsageError
from unspool.events import ContextSnapshotData, HttpRequest, RecordEvent, RecordEventType
from unspool.recording.reader import RecordReader
from unspool.recording.recorder import Recorder
from unspool.replay.livecall import server_of
from unspool.web.app import create_app
from unspool.web.forkdraft import open_desk, shown, typed, work_out
from unspool.web.forkform import read_form
from unspool.web.forkjobs import Jobs, OptionFile, Order
from unspool.web.guard import Door
from unspool.web.linematch import matching_lines

TOKEN = "a-token-of-the-tests"
DOOR = Door("127.0.0.1", 4848, TOKEN, forking=True)
WAIT_S = 60  # far more than it takes


@pytest.fixture
def point(store) -> tuple[str, int]:
    """A recorded call of two messages."""
    body = {
        "model": "gpt-4.1-mini",
        "messages": [
            {"role": "system", "content": "Be quick."},
            {"role": "user", "content": "What is the rate?"},
            {"role": "user", "content": "Of 2018, I mean."},
        ],
        "temperature": 1,
    }
    with Recorder(store.records, store.next_pid(), "a run") as recorder:
        request = HttpRequest(method="POST", url="https://api.openai.com/v1/chat/completions")
        data = ContextSnapshotData(provider="openai_chat", model="gpt-4.1-mini", request=request)
        event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 5, recorder.pid, context=data)
        call, _ = recorder.write_request(event, json.dumps(body).encode(), "messages")
        return recorder.record_id, call.seq_num


@pytest.fixture
def jobs(store):
    made = Jobs(store)
    yield made
    made.close()


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """Where forks have their files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return lambda: list(tmp_path.glob("unspool-fork-*"))


@pytest.fixture
def post(store, jobs, point):
    """Posts the form of the call; gives what came."""
    app = create_app(store, Prices(), DOOR, jobs)
    client = TestClient(app, base_url="http://127.0.0.1:4848", follow_redirects=False)
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    headers = {"origin": "http://127.0.0.1:4848", "content-type": "application/x-www-form-urlencoded"}
    path = f"/run/{point[0]}/step/{point[1]}/fork"

    def do(what: str, *fields: tuple[str, str]):
        given = [("form-token", DOOR.form_token), ("do", what), *fields]
        return client.post(path, content=urlencode(given), headers=headers)

    return do


def form_in(page: str) -> list[tuple[str, str]]:
    """The fields of a page's form, as a browser would post them."""
    form = page[page.index('<form id="fork-form"') : page.index("</form>", page.index('<form id="fork-form"'))]
    fields: list[tuple[str, str]] = []
    every = r"<input ([^>]*)>|<textarea ([^>]*)>\n?(.*?)</textarea>|<select ([^>]*)>(.*?)</select>"
    for box, area, text, select, options in re.findall(every, form, re.S):
        about = dict(re.findall(r'([a-z-]+)="([^"]*)"', box or area or select))
        value = text if area else about.get("value", "")
        if select:
            value = re.search(r"<option selected>([^<]*)", options)[1]
        if about["name"] != "form-token" and (about.get("type") != "checkbox" or " checked" in box):
            fields.append((about["name"], html.unescape(value)))
    return fields


def said_at(page: str, name: str) -> str:
    """What is said beside a field to be wrong with it."""
    field = re.search(rf'<(?:input|textarea) [^>]*name="{name}"[^>]*>', page)
    assert field, name
    about = re.search(r'aria-invalid="true" aria-describedby="([^"]*)"', field[0])
    told = about and re.search(rf'<span class="error fault" id="{about[1]}">(.*?)</span>', page)
    return html.unescape(told[1]) if told else ""


# --- numbers ---------------------------------------------------------------------------------------------------------

FULL = [
    ("shown-from", "1"), ("system", "Be slow."), ("text-1", "What was it?"), ("remove", "2"), ("model", "gpt-5"),
    ("new-after-1", "1"), ("new-role-1", "assistant"), ("new-text-1", "Which year?"), ("answer-given", "1"),
    ("response", "42"), ("param.temperature", "0.25"), ("more-params", "seed=1"), ("max-calls", "3"),
    ("max-cost", "0.123456789"), ("samples", "2"), ("base-url", "http://127.0.0.1:9/v1"), ("key-env", "MY_KEY"),
]  # fmt: skip
BAD = [
    ("max-cost", "0,50", "US dollars"), ("max-cost", "nan", "US dollars"), ("max-calls", "three", "whole number"),
    ("samples", "0", "from 1 up to 100"), ("samples", "1e2", "from 1 up to 100"), ("base-url", "http://[::1", "no URL"),
    ("base-url", "http://h:99999999/", "no URL"), ("key-env", "A B", "environment variable"),
    ("response", "  ", "no text"),
]  # fmt: skip


def test_a_form_that_is_all_right_comes_back_as_it_was_filled_in(post):
    page = post("dry-run", *FULL).text
    assert sorted(form_in(page)) == sorted(FULL)
    assert "aria-invalid" not in page


@pytest.mark.parametrize(("name", "value", "said"), BAD)
@pytest.mark.parametrize("what", ["dry-run", "run", "send"])
def test_one_bad_field_is_shown_as_typed_and_takes_no_other_along(post, jobs, what, name, value, said):
    bad = [(one, value if one == name else its) for one, its in FULL]
    page = post(what, *bad)
    assert page.status_code == 200
    assert said in said_at(page.text, name)
    assert page.text.count("aria-invalid") == 1
    assert sorted(form_in(page.text)) == sorted(bad)
    assert 'id="fork-error"' in page.text
    assert jobs.all() == []


def test_each_bad_field_is_told(post):
    page = post("run", ("max-cost", "0,50"), ("max-calls", "few"), ("samples", "-1")).text
    assert "0,50" in said_at(page, "max-cost")
    assert "few" in said_at(page, "max-calls")
    assert "-1" in said_at(page, "samples")
    told = html.unescape(re.search(r'id="fork-error"[^>]*>(.*?)</p>', page, re.S)[1])
    assert len(told.splitlines()) == 3


def test_what_comes_back_and_is_corrected_starts_what_was_asked_for(post, jobs):
    with socket.socket() as closed:  # nobody listens there
        closed.bind(("127.0.0.1", 0))
        where = ("base-url", f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
        back = form_in(post("send", ("remove", "2"), ("max-calls", "3"), ("max-cost", "0,50"), where).text)
        corrected = [(name, "0.50" if name == "max-cost" else value) for name, value in back]
        assert post("send", *corrected).status_code == 303
        (job,) = jobs.all()
        assert job.wait(WAIT_S)
    assert {"--max-calls=3", "--max-cost=0.5", f"--base-url={where[1]}"} <= set(job.argv)
    (file,) = job.order.files
    assert "What is the rate?" in file.text
    assert "Of 2018" not in file.text


@pytest.mark.parametrize("name", ["new-after-1", "remove", "shown-from"])
def test_a_number_that_no_page_has_is_refused_and_the_rest_is_kept(post, name):
    page = post("run", ("text-1", "typed"), ("new-text-1", "new"), ("max-calls", "3"), (name, "x"))
    assert page.status_code == 200
    assert "whole number" in page.text
    fields = form_in(page.text)
    assert ("text-1", "typed") in fields
    assert ("new-text-1", "new") in fields
    assert ("max-calls", "3") in fields


def test_a_bad_field_keeps_no_button_from_showing_more(post):
    page = post("open:2", ("max-cost", "0,50"), ("text-1", "typed")).text
    assert ("text-2", "Of 2018, I mean.") in form_in(page)
    assert ("max-cost", "0,50") in form_in(page)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*dict(FULL), "remove", "all-tools", "live-tool", "keep-state", "text-99", "new-after-2"]),
            st.text(max_size=12) | st.sampled_from(["1", "0,50", "http://[::1", "\0"]),
        ),
        max_size=12,
    )
)
def test_any_form_can_be_read(fields):
    form = read_form(fields)
    assert set(form.faults) <= dict(fields).keys() | {"response"}
    assert all("\0" not in one for one in form.faults.values())


# --- characters that no option can have ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model", "system", "text-1", "more-params", "param.temperature", "response", "live-tool", "base-url"]
)
@pytest.mark.parametrize("what", ["dry-run", "run", "send"])
def test_a_nul_is_refused_with_a_sentence(post, jobs, folders, what, name):
    page = post(what, ("max-calls", "3"), (name, "a\0b"))
    assert page.status_code == 200
    assert f"the field '{name}' holds a character with the number 0" in html.unescape(page.text)
    assert "\0" not in page.text
    assert ("max-calls", "3") in form_in(page.text)
    assert jobs.all() == []
    assert folders() == []


def test_a_nul_in_a_name_is_refused(post):
    assert "with the number 0" in post("send", ("param.a\0b", "1")).text


# --- what a fork leaves behind when it cannot be started -------------------------------------------------------------


def order(*options: str) -> Order:
    return Order("run", "77-none", 1, "77-none", list(options), [OptionFile("--edit-file=", "edits.txt", "text")])


def test_nothing_is_left_of_what_no_process_can_be_given(jobs, folders):
    with pytest.raises(ValueError, match="null byte"):
        jobs.start(order("--model=a\0b"))
    assert folders() == []
    assert jobs.all() == []


def test_without_a_place_for_files_nothing_is_started(jobs, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    with pytest.raises(StoreError, match="the fork cannot be started: No such file"):
        jobs.start(order())
    assert jobs.all() == []


def test_a_process_that_cannot_be_watched_is_ended(jobs, folders, monkeypatch):
    started = []

    class NoThread:
        def __init__(self, *, target, **_about):
            started.append(target.__self__)

        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("unspool.web.forkjobs.threading.Thread", NoThread)
    with pytest.raises(StoreError, match="can't start new thread"):
        jobs.start(order())
    assert started[0]._process.returncode == -9
    assert folders() == []


# --- texts that look like something else -----------------------------------------------------------------------------


def test_a_text_is_never_taken_for_the_place_of_a_file(jobs, folders):
    job = jobs.start(order("--model=m{folder}x", "--set=a={folder}/edits.txt"))
    assert "--model=m{folder}x" in job.argv
    assert "--set=a={folder}/edits.txt" in job.argv
    (folder,) = folders()
    assert f"--edit-file={folder}/edits.txt" in job.argv
    assert job.wait(WAIT_S)


def test_words_in_braces_reach_the_command(store, point):
    record_id, seq = point
    with RecordReader(store.records / record_id) as reader:
        form = read_form([("model", "m{folder}x"), ("more-params", "user={folder}")])
        work = work_out(reader, open_desk(reader, seq), form)
    done = CliRunner().invoke(cli, ["fork", f"{record_id}@{seq}", *work.options, "--json", "--store", str(store.path)])
    assert done.exit_code == 0, done.output
    context = json.loads(done.stdout)["context"]
    assert context["model"] == "m{folder}x"
    assert context["params"]["user"] == "{folder}"


# --- addresses -------------------------------------------------------------------------------------------------------

ODD = ["http://[::1", "http://]", "http://h:99999999/", "http://h:x/v1", "http://", "ftp://h", "h/v1", "", "http://h:0"]


@pytest.mark.parametrize("url", ODD)
def test_what_is_no_address_of_a_server_is_said_to_be_none(url):
    with pytest.raises(UsageError, match=r"is no URL\. Write for example"):
        server_of(url)


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://api.openai.com", "HTTP://h:1"])
def test_an_address_is_taken_apart(url):
    assert server_of(url).hostname in ("::1", "api.openai.com", "h")


@pytest.mark.parametrize("url", [url for url in ODD if url])
def test_the_command_line_says_so_too(store, point, url):
    asked = ["fork", f"{point[0]}@{point[1]}", "--send", f"--base-url={url}", "--store", str(store.path)]
    done = CliRunner().invoke(cli, asked)
    assert done.exit_code == 2
    assert "is no URL. Write for example" in done.output


def test_a_variable_that_holds_no_address_names_no_server(store, point, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[::1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    asked = ["fork", f"{point[0]}@{point[1]}", "--dry-run", "--store", str(store.path)]
    assert CliRunner().invoke(cli, asked).exit_code == 0


# --- lines that nobody touched ---------------------------------------------------------------------------------------

_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
_LINES = st.sampled_from(["", "", "a", "b", "\x1b", "\\x1b", "- item"])
_OLD = st.lists(st.tuples(_LINES, _ENDS), max_size=30).map(lambda pairs: ["".join(pair) for pair in pairs])


def as_posted(text: str) -> str:
    return text.replace("\n", "\r\n")


def whole_lines(old: list[str]) -> bool:
    """Whether the pieces are still lines when put together: no line of "" and LF behind one that ends with CR."""
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)", "".join(old)) == old


def test_blank_lines_keep_their_own_ends():
    assert typed("a\r\n\r\nb\n\nc", "a\n\nb\n\nd") == "a\r\n\r\nb\n\nd"


@given(_OLD.filter(whole_lines), st.data())
def test_what_is_before_and_behind_an_edit_keeps_its_bytes(old, data):
    start = data.draw(st.integers(0, len(old)))
    end = data.draw(st.integers(start, len(old)))
    new = data.draw(st.lists(st.sampled_from(["new", "more"]), min_size=1, max_size=4))
    before, behind = "".join(old[:start]), "".join([*old[end:], "last"])
    posted = shown(before) + "".join(f"{line}\n" for line in new) + shown(behind)
    made = typed("".join([*old, "last"]), as_posted(posted))
    assert made.startswith(before)
    assert made.endswith(behind)
    between = made[len(before) : len(made) - len(behind)]
    assert re.split(r"\r\n|\n|\r", between) == [*new, ""]


@given(st.lists(st.tuples(_ENDS, st.sampled_from(["keep", "keep", "keep", "drop", "change", "add"])), max_size=40))
def test_each_line_that_is_kept_among_many_edits_keeps_its_bytes(lines):
    old = "".join(f"\x1b line {number}{end}" for number, (end, _) in enumerate(lines)) + "last"
    posted, kept = "", []
    for number, (end, what) in enumerate(lines):
        line = f"\x1b line {number}"
        if what in ("keep", "add"):
            kept.append(line + end)
            posted += shown(line) + "\n"
        if what in ("add", "change"):
            posted += f"new {number}\n"
    made = typed(old, as_posted(f"{posted}last"))
    found = [line for line in re.findall(r"[^\r\n]*(?:\r\n|\n|\r)", made) if line.startswith("\x1b")]
    assert found == kept


@given(_OLD, st.text("ab\n\x1b", max_size=40))
@example(["a\r", "X\n", "\n"], "a\n\n")
@example(["a\r", "\r", "x\r"], "a\n\n\n\nb")
def test_what_is_typed_is_what_is_there(old, new):
    assert shown(typed("".join(old), as_posted(new))) == shown(new)


def test_two_line_ends_do_not_become_one():
    assert typed("a\rX\n\nb", "a\n\nb") == "a\r\r\nb"  # the blank line had LF, which behind CR is no line's end
    assert typed("a\rb\r\r\nc", "a\nnew\nb\n\nc") == "a\rnew\rb\r\r\nc"
    assert typed("a\n\nb\rc\rd\r", "a\nnew\n\nb\nc\nd\n") == "a\nnew\r\n\nb\rc\rd\r"


def test_a_changed_line_ends_as_it_did():
    assert typed("a\r\nb\nc\r\nd", "a\nB\nc\nd") == "a\r\nB\nc\r\nd"


def test_a_line_that_was_moved_is_the_recorded_one():
    assert typed("\x1b\r\na\r\nb\r\nc", "a\nb\n\\x1b\nc") == "a\r\nb\r\n\x1b\r\nc"


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
@pytest.mark.parametrize("small", [0, 40_000])
def test_lines_match_in_order(small, old, new):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unspool.web.linematch._SMALL", small)
        pairs = matching_lines(old, new)
    assert all(old[one] == new[other] for one, other in pairs)
    assert all(one < later and other < new_later for (one, other), (later, new_later) in pairwise(pairs))
    assert bool(pairs) == bool(set(old) & set(new))


def test_a_text_of_many_lines_that_are_alike_is_matched_whole():
    lines = ["first", *([""] * 50_000), "middle", *(["x", ""] * 25_000), "end"]
    edited = ["FIRST", *lines[1:50_001], "MIDDLE", *lines[50_002:-1], "END"]
    assert len(matching_lines(lines, edited)) == len(lines) - 3
