"""Options that would do nothing are refused, names that match nothing are said, and what is said is right."""

from __future__ import annotations

import sys

import pytest

from unspool.cli.live_calls import LiveCall, why_unanswered
from unspool.cli.moved import rules_for_server
from unspool.cli.otlp_export import _report
from unspool.cli.runs import bisect_of, fold_bisects, fold_workers
from unspool.demo.server import ModelServer
from unspool.errors import UsageError
from unspool.recording.address import newest_first
from unspool.serving.plan import Plan

CHAT = "/chat/completions"


@pytest.fixture
def root(make):
    return make().metadata


# --- options without the one they need -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("ctx", "last", "--each"), "--each goes with --verify"),
        (("ctx", "last", "--samples", "5", "--max-cost", "1"), "--samples and --max-cost without --verify: nothing is"),
        (("ctx", "last", "--leaked", "--base-url", "http://x"), "--base-url without --verify"),
        (("fork", "last@call:2", "--dry-run", "-n", "5"), "it needs --send or --run"),
        (("fork", "last@call:2", "--dry-run", "--max-calls", "5"), "--max-calls limits what is sent"),
        (("fork", "last@call:2", "--max-cost", "5"), "--max-cost limits what is sent"),
        (("fork", "last@call:2", "--send", "--live-tools", "*"), "go with --run"),
        (("fork", "last@call:2", "--dry-run", "--yes"), "go with --run"),
        (("fork", "last@call:2", "--base-url", "http://h/v1"), "it needs --send, --run or --dry-run"),
        (("fork", "last@call:2", "--run", "--key-env", "KEY"), "takes its own key"),
        (("fork", "last@call:2", "--edit", "--edit-file", "x"), "choose one of them"),
        (("fork", "last@call:2", "--model", "", "--dry-run"), "--model takes the name of a model"),
        (("strace", "last", "-e", ""), "--kind names no kind. It takes: "),
        (("strace", "last", "-e", " , "), "--kind names no kind. It takes: "),
        (("bisect", "last", "--check", "false", "--calls", "1-99"), "--calls 1-99 goes beyond the model calls"),
        (("bisect", "last", "--check", "false", "--calls", "0-2"), "--calls 0-2 goes beyond the model calls"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(invoke, agent_run, command, said):
    result = invoke(*command)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_messages_are_sent_only_where_spans_are(invoke, store):
    result = invoke("run", "--otlp-messages", "--", sys.executable, "-c", "")
    assert result.exit_code == 2
    assert "add --otlp" in result.stderr
    assert not list(store.records.iterdir())


def test_a_limit_of_no_money_lets_nothing_leave(unspool, tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys, httpx\n"
        "body = {'model': 'gpt-4.1-mini', 'messages': [{'role': 'user', 'content': 'hi'}]}\n"
        "with httpx.Client(trust_env=False) as client:\n"
        "    print(client.post(sys.argv[1] + '/v1/chat/completions', json=body).status_code)\n"
    )
    with ModelServer() as server:
        program = (sys.executable, str(tmp_path / "program.py"), server.url)
        done = unspool("run", "--max-cost", "0", "--", *program)
        assert done.returncode == 143
        assert "call 1 of PID 1 is not sent: it has cost $0, --max-cost is $0" in done.stderr
        assert server.requests == []
        free = unspool("run", "--max-cost", "0.01", "--", *program)
        assert free.returncode == 0, free.stderr
        assert len(server.requests) == 1


@pytest.mark.parametrize(("name", "least"), [("--max-steps", "x>=1"), ("--max-time", "is no time")])
def test_limits_that_cannot_be_nothing_say_so(invoke, store, name, least):
    result = invoke("run", name, "0", "--", "true")
    assert result.exit_code == 2
    assert least in result.stderr


# --- names of tools --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("rerun", "last"), ("fork", "last@call:2", "--run")])
def test_a_tool_that_the_run_does_not_have_is_said(unspool, agent_run, command):
    said = unspool(*command, "--live-tools", "serch,broken", "--live-tools", "*,mcp,/dev/tool/").stderr
    assert "--live-tools: the run has no tool 'serch'. Did you mean search? Its tools are search, broken" in said
    assert said.count("has no tool") == 1


# --- words -----------------------------------------------------------------------------------------------------------


def test_what_is_optional_is_shown_so(invoke):
    assert "unspool log [OPTIONS] [REC]" in " ".join(invoke("log", "--help").output.split())


@pytest.mark.parametrize(
    ("refused", "words"),
    [(1, "1 span was not taken over OTLP. It is in"), (2, "2 spans were not taken over OTLP. They")],
)
def test_one_span_was_and_two_were(capsys, refused, words):
    class Export:
        unsent, problem = 0, ""

        def __init__(self):
            self.refused = refused

    class Launch:
        def records(self):
            return []

    _report(Export(), Launch())
    assert words in capsys.readouterr().err


def test_a_recording_and_a_command_are_told_apart(invoke, agent_run):
    both = invoke("strace", "1", "--", "python", "agent.py").stderr
    assert "unspool strace 1, or unspool strace -- python agent.py" in both
    assert "-- 1" not in both
    assert "unspool strace -- python agent.py" in invoke("strace", "python", "agent.py").stderr


def test_the_word_about_an_at_sign_is_said_where_it_applies(invoke, agent_run):
    assert "@@" not in invoke("fork", "last@call:2", "--edit-file", "nofile").stderr
    assert "is written @@" in invoke("fork", "last@call:2", "--set-system", "@nofile").stderr


def test_an_import_that_fails_leaves_no_store(invoke, tmp_path):
    (tmp_path / "x.json").write_text('{"nothing": "known"}')
    result = invoke("import", "x.json", "--store", "Z")
    assert result.exit_code == 1
    assert not (tmp_path / "Z").exists()


def test_an_import_that_fails_leaves_a_store_that_was_there(invoke, store, tmp_path):
    (tmp_path / "x.json").write_text('{"nothing": "known"}')
    assert invoke("import", "x.json").exit_code == 1
    assert store.records.is_dir()


# --- another server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "url", "moved"),
    [
        ("http://new:1/v1", "http://old:2/v1" + CHAT, ("http://new:1", "http://old:2")),
        ("http://new:1/api/v1", "http://old:2/v1" + CHAT, ("http://new:1/api", "http://old:2")),
        ("http://new:1", "http://old:2/team/v1" + CHAT, ("http://new:1", "http://old:2/team/v1")),
        ("http://old:2/v1", "http://old:2/v1" + CHAT, None),
    ],
)
def test_where_the_urls_of_another_server_begin(root, base, url, moved):
    rules = rules_for_server(base, root, [("openai_chat", url)])
    assert rules == {"environ": {"OPENAI_BASE_URL": base}, "moved": moved}
    plan = Plan(root="1", sources=[], moved=moved)
    if moved is not None:
        now = moved[0] + url.removeprefix(moved[1])
        assert plan.recorded_url(now) == url
        assert not plan.is_left_behind(now)
        assert plan.is_left_behind(url)
        assert plan.recorded_url("http://new:10/v1/x") == "http://new:10/v1/x"
    else:
        assert not plan.is_left_behind(url)


def test_no_other_server_changes_nothing(root):
    assert rules_for_server(None, root, [("openai_chat", "http://old/v1" + CHAT)]) == {}


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([("openai_chat", "https://x.openai.azure.com/openai/deployments/d/chat/completions")], "it is not known how"),
        ([("openai_chat", "http://a/v1" + CHAT), ("anthropic", "http://b/v1/messages")], "asked several"),
        ([("no such wire", "http://a/v1")], "it is not known how"),
    ],
)
def test_another_server_that_cannot_be_told_is_refused(root, calls, said):
    with pytest.raises(UsageError, match=said):
        rules_for_server("http://new/v1", root, calls)


def test_the_variable_is_that_of_the_vendor(make):
    root = make(env={"OPENAI_API_BASE": "http://old/v1"}).metadata
    names = [
        set(rules_for_server("http://new", root, [call])["environ"])
        for call in (
            ("anthropic", "http://old/v1/messages"),
            ("gemini", "http://old/v1beta/models/m:generateContent"),
            ("openai_responses", "http://old/v1/responses"),
        )
    ]
    assert names == [{"ANTHROPIC_BASE_URL"}, {"GOOGLE_GEMINI_BASE_URL"}, {"OPENAI_BASE_URL", "OPENAI_API_BASE"}]


# --- forks of a bisection --------------------------------------------------------------------------------------------


def test_calls_that_all_failed_are_told_from_those_of_which_one_was_answered():
    failed, answered = LiveCall("http://h:1", None, "refused", False), LiveCall("http://h:1", 200, "", True)
    assert why_unanswered([]) is None
    assert why_unanswered([failed, answered]) is None
    assert why_unanswered([failed, failed]) == "http://h:1: refused"


def test_forks_of_several_bisections_and_other_runs(store, make):
    def fork(name, number):
        return make(parent=root, forked_at=2, extra={"bisect": [name, number]}).record_id

    root = make().record_id
    one, two = fork("a", 1), fork("a", 2)
    other = make().record_id
    three, apart = fork("a", 3), fork("b", 1)
    rows = list(fold_bisects(fold_workers(store, newest_first(store))))
    assert [row.agent.record_id for row in rows] == [apart, other, one, root]
    assert [one.record_id for one in rows[2].records] == [one, three, two]
    assert rows[0].others == []


def test_a_damaged_mark_is_no_bisection(make):
    for mark in ("a", ["a"], [1, "a"], {"a": 1}, None, ["a", True, 2]):
        assert bisect_of(make(forked_at=2, extra={"bisect": mark}).metadata) is None
    assert bisect_of(make(extra={"bisect": ["a", 1]}).metadata) is None
