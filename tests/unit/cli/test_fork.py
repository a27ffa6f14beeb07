"""`unspool fork` as far as it goes without a model: what would be forked, the request, and what is refused."""

from __future__ import annotations

import json

import pytest

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType, StateChangeData


def by_hand(*texts: str) -> RecordEvent:
    messages = [CtxMessage("user", text) for text in texts]
    data = ContextSnapshotData(messages=messages, system_prompt="be brief")
    return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, 0, 1, context=data)


def test_what_would_be_forked_and_what_changes(invoke, agent_run):
    result = invoke("fork", "last@call:2", "--set-system", "be long", "--append", "user:and now?")
    assert result.exit_code == 0, result.output
    assert "Messages: 4" in result.stdout
    assert "{+long+}" in result.stdout
    assert "+ [user] and now?" in result.stdout


def test_the_same_as_json(as_json, agent_run):
    found = as_json("fork", "last@call:2", "--replace-last", "other", "--set", "temperature=0")
    assert found["call"] == 2
    assert found["context"]["messages"][-1]["content"] == "other"
    assert found["context"]["params"] == {"temperature": 0}
    assert [change["op"] for change in found["diff"]["script"]][-2:] == ["remove", "add"]


def test_the_request(invoke, agent_run):
    result = invoke("fork", "last@call:3", "--remove-last", "1", "--set", "temperature=null", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "authorization: REDACTED" in result.stdout
    assert "sk-secret" not in result.stdout
    assert '-      "content": "found turn 1"' in result.stdout


def test_texts_come_from_files(invoke, as_json, agent_run, tmp_path):
    (tmp_path / "prompt.txt").write_text("from a file\n")
    found = as_json("fork", "last@call:1", "--set-system", "@prompt.txt", "--append", "user:@@home")
    assert found["context"]["system_prompt"] == "from a file\n"
    assert found["context"]["messages"][-1]["content"] == "@home"
    result = invoke("fork", "last@call:1", "--set-system", "@nothing.txt")
    assert result.exit_code == 2
    assert "cannot read nothing.txt" in result.stderr


def test_a_document_that_was_edited_elsewhere(invoke, as_json, agent_run, tmp_path):
    (tmp_path / "fork.txt").write_text("=== system prompt\nbe brief\n\n=== 1 user\nother\n")
    found = as_json("fork", "last@call:1", "--edit-file", "fork.txt")
    assert found["context"]["messages"][0]["content"] == "other"
    (tmp_path / "fork.txt").write_text("=== 1 user\nother\n=== 7 user\n")
    result = invoke("fork", "last@call:1", "--edit-file", "fork.txt")
    assert result.exit_code == 2
    assert "fork.txt, line 3: there is no message 7" in result.stderr


def test_without_a_terminal_no_editor_is_started_by_itself(invoke, agent_run, monkeypatch):
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    result = invoke("fork", "last@call:1", "--edit")
    assert result.exit_code == 2
    assert "--edit-file" in result.stderr


def test_an_editor_that_fails_keeps_the_text(invoke, agent_run, monkeypatch, tmp_path):
    monkeypatch.setenv("VISUAL", "false")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = invoke("fork", "last@call:1", "--edit")
    assert result.exit_code == 2
    assert "ended with code 1" in result.stderr
    [kept] = tmp_path.glob("unspool-fork-*.txt")
    assert str(kept) in result.stderr
    monkeypatch.setenv("VISUAL", "no-such-editor-here")
    missing = invoke("fork", "last@call:1", "--edit")
    assert missing.exit_code == 2
    assert "Set VISUAL or EDITOR" in missing.stderr
    assert len(list(tmp_path.glob("unspool-fork-*.txt"))) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--send", "--run"], "Choose one"),
        (["-n", "3"], "needs --send or --run"),
        (["--append", "hello"], "ROLE:TEXT"),
        (["--append", "tool:x"], "--tool-result"),
        (["--set", "temperature"], "KEY=VALUE"),
        (["--set", ".=1"], "KEY=VALUE"),
        (["--tool-result", "x"], "CALL_ID=TEXT"),
        (["--tool-result", "c9=x"], "no message before this point"),
        (["--remove-last", "99"], "the context has"),
        (["--set-response", '{"tool_calls": [{}]}'], "has no name"),
        (["--set-response", "x", "--send"], "nothing to send"),
        (["--run", "--key-env", "KEY"], "goes with --send"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(invoke, agent_run, options, said):
    result = invoke("fork", "last@call:2", *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_answer_that_is_given_is_shown(invoke, agent_run):
    result = invoke("fork", "last@call:2", "--set-response", '[{"name": "search", "arguments": {"query": "x"}}]')
    assert result.exit_code == 0, result.output
    assert '→ search({"query":"x"})' in result.stdout


def test_a_recording_without_bodies_can_be_looked_at_only(invoke, make):
    state = RecordEvent(RecordEventType.STATE_CHANGE, 0, 0, 1, state=StateChangeData("created", "running", ""))
    recorder = make(state, by_hand("one"))
    result = invoke("fork", "last@2")
    assert result.exit_code == 2
    assert "can be looked at, but not forked" in result.stderr
    early = invoke("fork", "last@1")
    assert early.exit_code == 1
    assert f"unspool strace {recorder.record_id}" in early.stderr


def test_a_missing_piece_of_the_request_is_said(invoke, agent_run):
    (folder,) = [path for path in agent_run.records.iterdir() if path.name.startswith("1-")]
    pool = folder / "messages.jsonl"
    pool.write_bytes(pool.read_bytes().replace(b"hello", b"hullo"))
    result = invoke("fork", "1@call:1", "--dry-run")
    assert result.exit_code == 2
    assert "missing or damaged" in result.stderr


def test_what_a_recording_says_does_not_act_on_the_terminal(invoke, agent_run):
    result = invoke("fork", "last@call:1", "--append", "user:\x1b[31mred\u202e", "--dry-run")
    assert "\x1b" not in result.stdout
    assert json.loads(invoke("fork", "last@call:1", "--append", "user:\x1b[31m", "--json").stdout)
