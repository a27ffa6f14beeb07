"""`unspool ls` and `unspool ps`."""

from __future__ import annotations

import os

import pytest
from cli_events import model_call, snapshot, state, tool

from unspool.capture.process import OPEN_NAME

# --- ls --------------------------------------------------------------------------------------------------------------


def lines(result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_ls_of_an_empty_store_prints_nothing_and_succeeds(invoke, store):
    assert lines(invoke("ls")) == []


def test_ls_of_a_store_that_does_not_exist_makes_none(invoke, tmp_path):
    assert lines(invoke("ls", "--store", str(tmp_path / "none"))) == []
    assert not (tmp_path / "none").exists()


def test_ls_of_a_store_that_cannot_be_read_fails(invoke, tmp_path):
    (tmp_path / "records").write_text("no folder")
    result = invoke("ls", "--store", str(tmp_path))
    assert result.exit_code == 1
    assert "cannot list the recordings" in result.stderr


def test_ls_shows_the_newest_first(invoke, make):
    ids = [make(intent=f"number {n}").record_id for n in range(3)]
    header, *rows = lines(invoke("ls"))
    assert header.split() == ["ID", "STATE", "AGE", "STEPS", "CALLS", "TOKENS", "COST", "ERR", "INTENT"]
    assert [row.split()[0] for row in rows] == ids[::-1]
    assert rows[0].endswith("number 2")


def test_ls_sums_up_what_happened(invoke, make):
    make(*model_call(1), *model_call(2), tool(err="no"))
    assert lines(invoke("ls"))[1].split()[1:8] == ["completed", "0s", "2", "2", "2.2k", "$0.0011", "1"]


def test_ls_shows_what_is_unknown_as_a_question_mark(invoke, make):
    make(*model_call(1, read=None, written=None))
    assert lines(invoke("ls"))[1].split()[5:7] == ["?", "?"]


def test_ls_states(invoke, make):
    make(intent="a", running=True)
    make(intent="b", exit_code=3)
    make(intent="c").stop()
    states = {row.split()[-1]: row[row.index("Z") if "Z" in row else 24 :] for row in lines(invoke("ls"))[1:]}
    assert "running" in states["a"]
    assert "exit 3" in states["b"]
    assert "completed" in states["c"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_ls_fits_the_screen_and_never_cuts_an_id(invoke, make, monkeypatch, columns):
    record_id = make(intent="x" * 300).record_id
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = lines(invoke("ls"))
    assert all(len(row) <= columns for row in rows)
    assert rows[1].startswith(record_id)


def test_ls_escapes_what_agents_say(invoke, make):
    make(intent="red \x1b[31m \u202e line\nbreak")
    (row,) = lines(invoke("ls"))[1:]
    assert "\x1b" not in row
    assert r"\n" in row


def test_ls_limits_filters_and_folds(invoke, make, as_json):
    root = make(intent="Nightly", command=["python", "night.py"]).record_id
    make(parent=root, role="worker", intent="w")
    make(intent="other")
    assert len(lines(invoke("ls", "-n", "1"))) == 2
    assert [row["record_id"] for row in as_json("ls", "nightly")] == [root]
    assert [row["record_id"] for row in as_json("ls", "NIGHT.PY")] == [root]
    assert "(+1 worker)" in invoke("ls", "nightly").stdout
    assert len(as_json("ls")) == 2
    assert len(as_json("ls", "--flat")) == 3
    assert as_json("ls", "no such thing") == []


def test_a_worker_counts_in_the_line_of_its_agent(make, as_json):
    root = make(*model_call(1)).record_id
    worker = make(*model_call(1), parent=root, role="worker").record_id
    (row,) = as_json("ls")
    assert (row["calls"], row["workers"], row["tokens"]) == (2, [worker], 2200)


def test_the_keys_of_ls_are_stable(make, as_json):
    make()
    assert list(as_json("ls")[0]) == [
        *("record_id", "pid", "parent_pid", "parent", "forked_at", "rerun_of", "role", "intent", "status", "exit_code"),
        *("start_time", "end_time", "age_s", "command", "trace_id", "os_pid", "workers", "bisect"),
        *("events", "steps", "calls", "tools", "errors", "lost", "input_tokens", "output_tokens", "cached_tokens"),
        *("tokens", "tokens_unknown", "cost_unknown", "served", "cost_usd"),
    ]


def test_ls_lists_a_damaged_recording(invoke, make):
    recorder = make(tool(), tool())
    path = recorder.record_dir / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"type":"syscall"', b"garbage", 1))
    (recorder.record_dir / "metadata.json").write_text("{")
    result = invoke("ls")
    assert recorder.record_id in result.stdout
    assert "interrupted" in result.stdout


def test_ls_says_what_it_leaves_out(invoke, make):
    (make().record_dir / "metadata.json").write_text('{"format_version": 99}')
    result = invoke("ls")
    assert result.exit_code == 0
    assert "format version 99" in result.stderr


def test_ls_refuses_a_negative_limit(invoke, store):
    assert invoke("ls", "-n", "-1").exit_code == 2


def test_ls_searches_what_was_said(invoke, make, as_json):
    found = make(tool(result="a rare Ptarmigan"), *model_call(1)).record_id
    worker = make(tool(result="another PTARMIGAN"), parent=found, role="worker").record_id
    other = make(tool(result="plain")).record_id
    assert [row["record_id"] for row in as_json("ls", "--search", "ptarMIGAN")] == [found]
    assert {row["record_id"] for row in as_json("ls", "-s", "ptarmigan", "--flat")} == {found, worker}
    (row,) = as_json("ls", "--search", "PLAIN")
    assert row["record_id"] == other
    assert row["found"] == {"record_id": other, "seq_num": 1, "text": "plain"}
    assert lines(invoke("ls", "--search", "capercaillie")) == []


def test_ls_narrows_by_time_cost_model_tool_and_errors(make, as_json, invoke):
    cheap = make(*model_call(1)).record_id
    dear = make(*model_call(1, read=1_000_000, model="gpt-5"), tool(err="no")).record_id

    def ids(*options):
        return [row["record_id"] for row in as_json("ls", *options)]

    assert ids("--min-cost", "0.1") == ids("--errors") == ids("--model", "gpt-5") == ids("--tool", "search") == [dear]
    assert ids("--max-cost", "0.1") == [cheap]
    assert ids("--since", "1h") == ids("--since", "today", "--until", "today") == [dear, cheap]
    assert ids("--until", "yesterday") == []
    assert invoke("ls", "--since", "7x").exit_code == 2
    assert invoke("ls", "--min-cost", "-1").exit_code == 2


def test_ls_is_the_same_with_and_without_a_catalog(store, make, as_json, invoke):
    make(*model_call(1), tool(err="no"))
    make(*model_call(1, model="my-own-7b"), running=True)

    def rows():
        return [{**row, "age_s": None} for row in as_json("ls")]

    first = rows()
    assert (store.path / "catalog.sqlite").exists()
    assert rows() == first
    (store.path / "catalog.sqlite").write_bytes(b"nothing of the kind")
    assert rows() == first
    (store.path / "catalog.sqlite").unlink()
    (store.path / "catalog.sqlite").mkdir()
    assert rows() == first


# --- ps --------------------------------------------------------------------------------------------------------------


def test_ps_shows_only_what_is_running(invoke, make, as_json):
    make()
    running = make(state(), running=True)
    (row,) = as_json("ps")
    assert (row["pid"], row["os_pid"], row["state"], row["doing"]) == (running.pid, os.getpid(), "running", [])
    assert [one["pid"] for one in as_json("ps", "--all")] == [1, 2]


def test_ps_of_nothing_prints_nothing(invoke, store):
    assert lines(invoke("ps")) == []


def test_ps_draws_a_tree(invoke, make):
    root = make(running=True, intent="root")
    first = make(running=True, parent=root.record_id, intent="first")
    make(running=True, parent=first.record_id, intent="below first")
    make(running=True, parent=root.record_id, intent="second")
    make(running=True, intent="other root")
    assert [row.split()[0] for row in lines(invoke("ps"))[1:4]] == ["1", "├─2", "│"]
    assert [row.split()[0] for row in lines(invoke("ps"))[4:]] == ["└─4", "5"]


def test_ps_says_what_an_agent_is_doing(invoke, make, as_json):
    recorder = make(state(), *model_call(1), snapshot(2), tool(span_id="00000003"), running=True)
    (recorder.record_dir / OPEN_NAME).write_text(
        '{"span_id":"00000003","name":"ToolCall","path":"/dev/tool/done","start":0}\n'
        '{"span_id":"00000004","name":"ToolCall","path":"/dev/tool/slow_one","start":5000}\n'
        '{"span_id":"0000000'
    )
    doing = as_json("ps")[0]["doing"]
    assert [one["what"] for one in doing] == ["tool slow_one", "llm gpt-4.1-mini"]
    assert doing[0]["path"] == "/dev/tool/slow_one"
    assert "tool slow_one 0s +1" in invoke("ps").stdout


def test_what_has_ended_is_doing_nothing(make, as_json):
    recorder = make(state(), snapshot(1))
    (recorder.record_dir / OPEN_NAME).write_text('{"span_id":"00000004","path":"/dev/tool/x","start":0}\n')
    (row,) = as_json("ps", "--all")
    assert (row["doing"], row["state"]) == ([], "completed")


@pytest.mark.parametrize("columns", [60, 80])
def test_ps_fits_the_screen(invoke, make, monkeypatch, columns):
    make(state(), snapshot(1), running=True, intent="y" * 200)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert all(len(line) <= columns for line in lines(invoke("ps")))


def test_the_keys_of_ps_are_stable(make, as_json):
    make(running=True)
    assert list(as_json("ps")[0])[:12] == [
        *("pid", "record_id", "parent_pid", "parent", "os_pid", "role", "state", "status", "intent", "start_time"),
        *("age_s", "doing"),
    ]
