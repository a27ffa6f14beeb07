"""Observations as Langfuse hands them out (shapes only; the content is made up).

The public API: `fern/apis/server/definition/commons.yml` (`Observation`) and `observations-v2.yml` of langfuse/langfuse
(MIT). Blob storage: langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields.
"""

from __future__ import annotations

import json

from unspool.events import RecordEventType
from unspool.interop.importing import import_paths
from unspool.trace.from_recording import recorded_trace

SENT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]


def imported(tmp_path, store, read, text, name="export.json"):
    path = tmp_path / name
    path.write_text(text)
    [result] = import_paths([path], store)
    assert (result.format, result.problems) == ("langfuse", [])
    return [read(one.record_id) for one in result.records]


def test_a_page_of_the_second_api(tmp_path, store, read):
    """Its model is `providedModelName`, its input and output are text unless asked for as JSON."""
    page = {
        "data": [
            {"id": "a", "traceId": "t1", "projectId": "p", "type": "AGENT", "name": "support", "level": "DEFAULT",
             "parentObservationId": None, "startTime": "2026-01-01T00:00:00.000Z",
             "endTime": "2026-01-01T00:00:09.000Z", "sessionId": "s1", "userId": "u1", "environment": "production"},
            {"id": "b", "traceId": "t1", "projectId": "p", "type": "GENERATION", "name": "answer", "level": "ERROR",
             "statusMessage": "rate limited", "parentObservationId": "a", "providedModelName": "gpt-x",
             "internalModelId": "m1", "modelParameters": {"temperature": 0}, "input": json.dumps(SENT), "output": "ho",
             "startTime": "2026-01-01T00:00:01.000Z", "endTime": "2026-01-01T00:00:03.000Z", "timeToFirstToken": 0.75,
             "usageDetails": {"input": 10, "output": 5, "total": 15}, "costDetails": {"total": 0.1}, "totalCost": 0.1},
        ],
        "meta": {"cursor": "eyJ9"},
    }  # fmt: skip
    [reader] = imported(tmp_path, store, read, json.dumps(page))
    spans = {span.name: span for span in recorded_trace([reader]).spans}
    call = spans["gpt-x"]
    assert (call.parent_span_id, str(call.status), call.tokens_used) == (spans["support"].span_id, "error", 15)
    assert call.attributes["gen_ai.request.model"] == "gpt-x"
    assert call.attributes["gen_ai.response.time_to_first_chunk"] == 0.75
    assert call.attributes["error.message"] == "error: rate limited"
    context = next(one.context for one in reader.events() if one.type is RecordEventType.CONTEXT_SNAPSHOT)
    assert (context.system_prompt, [one.content for one in context.messages]) == ("be brief", ["hi"])
    details = reader.metadata.extra["imported"]["details"]
    assert (details["sessionId"], details["userId"], details["environment"]) == ("s1", "u1", "production")


def test_rows_of_blob_storage(tmp_path, store, read):
    """Snake case, everything of a person's JSON in strings, times without a zone, the trace's name on each row."""
    rows = [
        {"id": "b", "trace_id": "t1", "project_id": "p", "type": "GENERATION", "name": "answer", "level": "DEFAULT",
         "parent_observation_id": "a", "provided_model_name": "claude-x", "trace_name": "support", "session_id": "s1",
         "user_id": "u1", "tags": ["x"], "release": "r1", "status_message": None,
         "model_parameters": '{"max_tokens":9}', "input": json.dumps({"messages": SENT}),
         "output": json.dumps({"role": "assistant", "content": "ho"}), "start_time": "2026-01-01 00:00:01.000000",
         "end_time": "2026-01-01 00:00:03.500000", "completion_start_time": "2026-01-01 00:00:01.250000",
         "usage_details": {"input": 10, "input_cached_tokens": 90, "output": 5, "total": 105}, "total_cost": 0.1},
        {"id": "a", "trace_id": "t1", "project_id": "p", "type": "SPAN", "name": "work", "level": "DEFAULT",
         "parent_observation_id": None, "trace_name": "support", "start_time": "2026-01-01 00:00:00.000000",
         "end_time": "2026-01-01 00:00:09.000000", "input": "", "output": ""},
        {"id": "z", "trace_id": "t2", "project_id": "p", "type": "EVENT", "name": "ping", "level": "DEFAULT",
         "trace_name": "other", "start_time": "2026-01-02 00:00:00.000000"},
    ]  # fmt: skip
    readers = imported(tmp_path, store, read, "".join(json.dumps(row) + "\n" for row in rows), "observations.jsonl")
    assert [reader.metadata.intent for reader in readers] == ["support", "other"]
    spans = {span.name: span for span in recorded_trace([readers[0]]).spans}
    call = spans["claude-x"]
    assert call.parent_span_id == spans["work"].span_id
    assert (call.start_time_ns, call.duration) == (1_767_225_601_000_000_000, 2_500_000_000)
    assert call.attributes["gen_ai.usage.input_tokens"] == 100
    assert call.attributes["gen_ai.response.time_to_first_chunk"] == 0.25
    snapshot = next(one.context for one in readers[0].events() if one.type is RecordEventType.CONTEXT_SNAPSHOT)
    assert snapshot.params == {"max_tokens": 9}
    details = readers[0].metadata.extra["imported"]["details"]
    assert details["tags"] == ["x"]
    assert details["release"] == "r1"
