"""Which format a file is in, what belongs together, what is there already, and what is said about what is not."""

from __future__ import annotations

import gzip
import json

import pytest

from unspool.events import RecordEventType
from unspool.interop.formats import FORMATS, format_of
from unspool.interop.importing import import_paths
from unspool.interop.sources import ImportFault, read_source
from unspool.recording.recorder import Recorder
from unspool.trace.from_recording import recorded_trace


def events(reader, kind):
    return [event for event in reader.events() if event.type is kind]


@pytest.mark.parametrize(
    ("path", "name", "records", "model_calls", "tool_calls"),
    [
        ("trajectories/tau_bench_two_runs.json.gz", "tau-bench", 2, 26, 15),
        ("trajectories/gpt4.traj.gz", "swe-agent", 1, 5, 5),
        ("trajectories/github_issue.traj.json.gz", "mini-swe-agent", 1, 10, 10),
        ("vcr/test_openai_client_tool_search_streaming.yaml.gz", "vcr", 1, 3, 0),
        ("vcr/test_anthropic_native_tool_search_round_trip.yaml.gz", "vcr", 1, 2, 0),
        ("vcr/test_chat_with_service_tier.yaml.gz", "vcr", 1, 3, 0),
    ],
)
def test_files_of_other_tools(data, store, read, path, name, records, model_calls, tool_calls):
    result = import_paths([data / path], store)[0]
    assert (result.format, result.problems) == (name, [])
    assert len(result.records) == records
    readers = [read(one.record_id) for one in result.records]
    assert all(reader.damage == [] for reader in readers)
    answers = [event for reader in readers for event in events(reader, RecordEventType.LLM_RESPONSE)]
    assert len(answers) == model_calls
    spans = recorded_trace(readers).spans
    assert sum(span.kind == "tool" for span in spans) == tool_calls
    if name != "vcr":
        # No file of these says what a call used: that is unknown, and never 0.
        assert {answer.llm.request_tokens for answer in answers} == {None}
        assert {span.tokens_used for span in spans if span.kind == "llm"} == {None}
    assert all(reader.metadata.start_time is None for reader in readers)
    again = import_paths([data / path], store)[0]
    assert again.records == []
    assert sorted(again.already) == sorted(one.record_id for one in result.records)
    assert again.is_whole
    assert len(import_paths([data / path], store, again=True)[0].records) == records


def test_cassettes_are_what_their_bodies_say(data, store, read):
    result = import_paths([data / "vcr" / "test_anthropic_native_tool_search_round_trip.yaml.gz"], store)[0]
    reader = read(result.records[0].record_id)
    first, second = (reader.context_at(event.seq_num) for event in events(reader, RecordEventType.CONTEXT_SNAPSHOT))
    assert first.provider == second.provider == "anthropic"
    assert len(second.messages) > len(first.messages)
    answers = [event.llm for event in events(reader, RecordEventType.LLM_RESPONSE)]
    assert [call.name for call in answers[0].tool_calls] == ["get_exchange_rate"]
    assert "1 USD = 0.92 EUR" in answers[1].text
    assert all(answer.request_tokens > 0 and answer.response_tokens > 0 for answer in answers)
    call = events(reader, RecordEventType.SYSCALL)[0].syscall
    assert (call.duration, call.ttft) == (0, None)
    assert call.args["path"].startswith("/dev/llm/anthropic/claude")


def test_compressed_bodies_of_a_cassette_are_read(data, store, read):
    result = import_paths([data / "vcr" / "test_chat_with_service_tier.yaml.gz"], store)[0]
    answer = events(read(result.records[0].record_id), RecordEventType.LLM_RESPONSE)[0].llm
    assert answer.text
    assert answer.response.body.encoding == "gzip"


def test_a_cassette_with_a_broken_interaction(data, tmp_path, store, read):
    good = {"request": {"method": "POST", "uri": "https://api.openai.com/v1/chat/completions", "headers": {},
                        "body": json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]})},
            "response": {"status": {"code": 200, "message": "OK"}, "headers": {}, "body": {"string": json.dumps(
                {"model": "gpt-x", "choices": [{"message": {"role": "assistant", "content": "ho"}}],
                 "usage": {"prompt_tokens": 3, "completion_tokens": 1}})}}}  # fmt: skip
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"interactions": [good, {"request": {}, "response": {}}, good], "version": 1}))
    result = import_paths([path], store)[0]
    assert result.records[0].model_calls == 2
    assert result.problems == ["interaction 2: its request has no method or no URI"]
    assert not result.failed


def test_tau_bench_contexts_grow_by_what_was_said(data, store, read):
    result = import_paths([data / "trajectories" / "tau_bench_two_runs.json.gz"], store)[0]
    reader = read(result.records[0].record_id)
    raw = json.loads(gzip.decompress((data / "trajectories" / "tau_bench_two_runs.json.gz").read_bytes()))[0]["traj"]
    last = events(reader, RecordEventType.CONTEXT_SNAPSHOT)[-1].context
    assert last.system_prompt == raw[0]["content"]
    spoken = [index for index, message in enumerate(raw) if message["role"] == "assistant"]
    assert [message.role for message in last.messages] == [message["role"] for message in raw[1 : spoken[-1]]]
    tool = next(event.syscall for event in reader.events() if event.syscall and event.syscall.syscall == "ToolCall")
    assert tool.args == {"path": "/dev/tool/get_user_details", "input": {"user_id": "mia_li_3668"}}
    assert reader.metadata.extra["imported"]["details"]["reward"] == 0.0


def test_swe_agent_times_of_tools_are_kept(data, store, read):
    result = import_paths([data / "trajectories" / "gpt4.traj.gz"], store)[0]
    reader = read(result.records[0].record_id)
    tools = [event.syscall for event in reader.events() if event.syscall and event.syscall.syscall == "ToolCall"]
    assert [tool.args["path"] for tool in tools][:2] == ["/dev/tool/find_file", "/dev/tool/open"]
    assert tools[0].duration == 281412833
    assert reader.metadata.extra["imported"]["details"]["model_stats"]["tokens_sent"] == 7141


def test_mini_swe_agent_failed_commands(data, store, read):
    result = import_paths([data / "trajectories" / "github_issue.traj.json.gz"], store)[0]
    tools = [
        e.syscall for e in read(result.records[0].record_id).events() if e.syscall and e.syscall.syscall == "ToolCall"
    ]
    assert tools[0].err.startswith("exit code 1\n")
    assert tools[-1].err == ""


def test_who_and_when(tmp_path, store, read):
    log = {
        "question": "how many?", "question_ID": "q", "mistake_agent": "Coder", "mistake_step": "1",
        "system_prompt": {"Coder": "you write code"},
        "history": [
            {"role": "human", "content": "how many?"},
            {"role": "user", "name": "Coder", "content": "print(41)"},
            {"role": "user", "name": "Computer_terminal", "content": "41"},
            {"role": "Orchestrator (-> Coder)", "content": "done"},
        ],
    }  # fmt: skip
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    result = import_paths([path], store)[0]
    assert [one.intent for one in result.records] == ["how many?", "Coder", "Orchestrator"]
    root = read(result.records[0].record_id)
    turns = [event.syscall for event in root.events() if event.syscall is not None]
    assert [turn.args.get("step", turn.args.get("input", {}).get("step")) for turn in turns] == [0, 1, 2, 3]
    assert turns[3].args["aside"] == "-> Coder"
    coder = read(result.records[1].record_id)
    snapshot = events(coder, RecordEventType.CONTEXT_SNAPSHOT)[0]
    assert snapshot.context.system_prompt == "you write code"
    assert [message.content for message in snapshot.context.messages] == ["[human] how many?"]
    assert root.metadata.extra["imported"]["details"]["mistake_step"] == "1"


def test_langfuse(tmp_path, store, read):
    trace = {
        "id": "t1", "name": "support", "sessionId": "s1",
        "observations": [
            {"id": "a", "type": "AGENT", "name": "root", "startTime": "2026-01-01T00:00:00.000Z",
             "endTime": "2026-01-01T00:00:10.000Z"},
            {"id": "b", "type": "GENERATION", "name": "answer", "parentObservationId": "a", "model": "gpt-x",
             "startTime": "2026-01-01T00:00:01.000Z", "endTime": "2026-01-01T00:00:03.500Z",
             "completionStartTime": "2026-01-01T00:00:01.250Z",
             "input": json.dumps([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]),
             "output": {"role": "assistant", "content": "ho"}, "modelParameters": {"temperature": 0},
             "usageDetails": {"input": 10, "input_cached_tokens": 90, "output": 5}},
            {"id": "c", "type": "TOOL", "name": "search", "parentObservationId": "a", "level": "ERROR",
             "statusMessage": "no index", "startTime": "2026-01-01T00:00:04Z", "endTime": "2026-01-01T00:00:05Z",
             "input": {"q": "x"}},
            {"id": "d", "type": "GENERATION", "name": "later", "parentObservationId": "a", "model": "gpt-x",
             "startTime": "2026-01-01T00:00:06Z", "endTime": None, "usage": {"input": 0, "output": 0, "total": 0}},
        ],
    }  # fmt: skip
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace))
    result = import_paths([path], store)[0]
    assert (result.format, result.problems) == ("langfuse", [])
    reader = read(result.records[0].record_id)
    spans = {span.name: span for span in recorded_trace([reader]).spans}
    root = spans["root"]
    calls = [span for span in recorded_trace([reader]).spans if span.kind == "llm"]
    assert {span.parent_span_id for span in calls} == {root.span_id}
    assert calls[0].duration == 2_500_000_000
    assert calls[0].attributes["gen_ai.usage.input_tokens"] == 100
    assert calls[0].attributes["gen_ai.usage.cache_read.input_tokens"] == 90
    assert calls[0].attributes["gen_ai.response.time_to_first_chunk"] == 0.25
    assert calls[1].tokens_used is None
    assert str(spans["search"].status) == "error"
    snapshot = events(reader, RecordEventType.CONTEXT_SNAPSHOT)[0].context
    assert (snapshot.system_prompt, [one.content for one in snapshot.messages]) == ("be brief", ["hi"])
    assert snapshot.params == {"temperature": 0}


def test_codex(tmp_path, store, read):
    def one(kind, payload, second):
        return {"timestamp": f"2026-01-01T00:00:{second:02d}.000Z", "type": kind, "payload": payload}

    def usage(total, read_, wrote):
        last = {"input_tokens": read_, "cached_input_tokens": 7, "output_tokens": wrote, "reasoning_output_tokens": 2}
        info = {"total_token_usage": {"total_tokens": total}, "last_token_usage": last}
        return {"type": "token_count", "info": info}

    shell = {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c1"}
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list the files"}]}
    bye = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a.py"}]}
    failed = json.dumps({"output": "no such folder", "metadata": {"exit_code": 2}})
    path = tmp_path / "rollout.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [
        one("session_meta", {"id": "s", "cwd": "/repo", "cli_version": "1", "instructions": "be a coder"}, 0),
        one("turn_context", {"model": "gpt-c", "effort": "high"}, 0),
        one("response_item", user, 1),
        one("event_msg", {"type": "user_message", "message": "list the files"}, 1),
        one("response_item", {"type": "reasoning", "summary": [{"type": "summary_text", "text": "think"}]}, 2),
        one("response_item", shell, 3),
        one("event_msg", usage(10, 100, 20), 3),
        one("event_msg", usage(10, 100, 20), 3),
        one("response_item", {"type": "function_call_output", "call_id": "c1", "output": failed}, 5),
        one("response_item", bye, 7),
        one("event_msg", usage(30, 130, 5), 7),
    ]))  # fmt: skip
    result = import_paths([path], store)[0]
    assert (result.format, result.problems) == ("codex", [])
    reader = read(result.records[0].record_id)
    answers = [event.llm for event in events(reader, RecordEventType.LLM_RESPONSE)]
    assert [(a.request_tokens, a.response_tokens, a.cached_tokens, a.reasoning_tokens) for a in answers] == [
        (100, 20, 7, 2),
        (130, 5, 7, 2),
    ]
    assert answers[0].tool_calls[0].name == "shell"
    assert answers[1].text == "a.py"
    last = events(reader, RecordEventType.CONTEXT_SNAPSHOT)[-1].context
    assert last.system_prompt == "be a coder"
    assert [message.role for message in last.messages][-1] == "tool"
    tool = next(event for event in reader.events() if event.syscall and event.syscall.syscall == "ToolCall")
    assert (tool.syscall.args["input"], tool.syscall.duration) == ({"command": ["ls"]}, 2_000_000_000)
    assert tool.syscall.err == "exit code 2\nno such folder"
    assert reader.metadata.intent == "list the files"


def test_recordings_are_copied(tmp_path, store, read):
    with Recorder(tmp_path / "other" / "records", 70, "elsewhere") as recorder:
        name = recorder.record_id
    result = import_paths([tmp_path / "other"], store)[0]
    assert result.records[0].record_id == name
    assert read(name).metadata.intent == "elsewhere"
    assert import_paths([tmp_path / "other"], store)[0].already == [name]
    store.next_pid()
    second = tmp_path / "second" / "records"
    with Recorder(second, 90, "more") as recorder:
        name = recorder.record_id
    import_paths([second / name], store)
    assert store.next_pid() == 91


def test_links_out_of_a_recording_are_not_followed(tmp_path, store):
    with Recorder(tmp_path / "other", 1, "x") as recorder:
        folder = recorder.record_dir
    (tmp_path / "secret").write_text("secret")
    (folder / "open.jsonl").symlink_to(tmp_path / "secret")
    (folder / "extra.txt").write_text("left behind")
    name = import_paths([folder], store)[0].records[0].record_id
    assert not (store.records / name / "open.jsonl").exists()
    assert not (store.records / name / "extra.txt").exists()


@pytest.mark.parametrize("content", [b"hello\n", b"{}", b"[]", b"[1, 2]", b'{"a": 1}\n{"b": 2}\n', b"\x00\x01\x02"])
def test_unknown_formats_list_the_known(tmp_path, store, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    result = import_paths([path], store)[0]
    assert result.failed
    assert all(name in result.problems[0] for name in FORMATS)


def test_a_damaged_gzip_file_gives_what_is_before_the_damage(tmp_path, store):
    lines = "".join(
        json.dumps({"uuid": str(n), "parentUuid": str(n - 1) if n else None, "sessionId": "s", "type": "user",
                    "timestamp": "2026-01-01T00:00:00Z", "message": {"role": "user", "content": f"{n} {n * n * n}"}})
        + "\n"
        for n in range(4000)
    )  # fmt: skip
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    result = import_paths([path], store)[0]
    assert not result.failed
    assert "the gzip file is cut off" in result.problems
    assert result.records


def test_one_bad_file_keeps_no_other_out(tmp_path, data, store):
    bad = tmp_path / "bad.json"
    bad.write_text("nothing")
    results = import_paths([bad, data / "trajectories" / "gpt4.traj.gz"], store)
    assert [result.failed for result in results] == [True, False]


def test_a_format_that_is_given_wins(tmp_path, store):
    path = tmp_path / "x.json"
    path.write_text("[]")
    result = import_paths([path], store, format_name="tau-bench")[0]
    assert result.problems == [f"{path}: nothing in it is a run of tau-bench"]


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"")
    with pytest.raises(ImportFault, match="is empty"):
        format_of(read_source(path))
