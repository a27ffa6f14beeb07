"""The prompts of a recorded process in tokens, fitted to the counts that its spans carry."""

from __future__ import annotations

from unspool.events import RecordEvent
from unspool.recording.prompts import Prompt, Prompts, Said
from unspool.recording.sent import SentCall, SentReader
from unspool.trace.from_recording import RecordedProcess
from unspool.trace.names import INPUT, MODEL, OUTPUT, REASONING, count_of, text_of

__all__ = ["prompts_of", "sent_by"]


def prompts_of(process: RecordedProcess) -> Prompts:
    """The prompts of a process, fitted to what the provider counted."""
    reader = process.reader.sent()
    prompts = Prompts()
    by_seq: dict[int, Prompt] = {}
    for snapshot in process.snapshots:
        sent = sent_by(process, reader, snapshot)
        before = by_seq.get(sent.prev) if sent is not None and sent.prev is not None else None
        if sent is not None and sent.kept and before is None:
            sent = reader.call(snapshot, whole=True)  # what it extends could not be read
        if sent is None:
            continue
        prompt = by_seq[snapshot.seq_num] = prompts.add(snapshot, sent, before)
        span = process.calls.get(snapshot.call) if snapshot.call is not None else None
        if span is not None:
            prompt.said = Said(
                text_of(span, MODEL) or None, count_of(span, INPUT), count_of(span, OUTPUT), count_of(span, REASONING)
            )
    _add_tools(process, prompts)
    prompts.fit(check=False)
    return prompts


def sent_by(process: RecordedProcess, reader: SentReader, snapshot: RecordEvent) -> SentCall | None:
    """What the call of a snapshot sent, also where its body was not stored in pieces: one whose input is a text has no
    array of messages. None if nothing of it can be read.
    """
    sent = reader.call(snapshot)
    if sent is not None or snapshot.context is None or snapshot.context.request is None:
        return sent
    context = process.reader.context_of(snapshot.context)
    return reader.given(snapshot, context) if context.messages or context.system_prompt else None


def _add_tools(process: RecordedProcess, prompts: Prompts) -> None:
    """Note which tools the provider ran itself: only where a request offered such are the answers looked at."""
    hosted = {prompt.sent.snapshot.call: prompt for prompt in prompts.calls if prompt.sent.is_hosted}
    for event in process.reader.bare_events() if hosted else ():
        response = event.llm.response if event.llm is not None else None
        prompt = hosted.get(event.call) if event.call is not None else None
        if prompt is None or response is None or response.body is None:
            continue
        body = process.reader.body(response.body)
        if body is not None:
            prompt.said = prompt.said.after(body)
