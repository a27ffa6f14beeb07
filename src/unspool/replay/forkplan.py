"""From what was asked to be changed to the edits of a fork, the request they make, and how it differs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from unspool.errors import UsageError
from unspool.events import Context, ContextSnapshotData, CtxMessage, RecordEvent
from unspool.providers import PROVIDERS
from unspool.providers.sse import read_stream
from unspool.providers.wire import as_list, as_object, decode_json
from unspool.replay.diff import ContextDiff, compute_context_diff
from unspool.replay.fork import ForkContext, ForkMessage
from unspool.replay.forkpoint import ForkPoint, Kept
from unspool.serving.edits import Draft, Edits, JsonObject, Turn, items_of, rewrite
from unspool.serving.replies import Recorded, build_answer, read_said

__all__ = ["ForkOptions", "ForkPlan", "draft_of", "plan_fork"]


class ForkOptions(Struct):
    """What is to be changed; done in the order of the fields.

    Attributes:
        remove_last: how many messages to take from the end.
        replace_last: a text for the last message.
        tool_results: what calls returned, by their id, or by the name of a tool that has one result.
        append: role and text of messages to add.
        set_system, model: None leaves them.
        params: keys of the request body, dots between keys within objects; None removes one.
        response: what the model said: a text, tool calls, or an answer in the provider's form.
        keep_state: send requests that lean on state at the provider as they are.
    """

    remove_last: int = 0
    replace_last: str | None = None
    tool_results: list[tuple[str, str]] = []
    append: list[tuple[str, str]] = []
    set_system: str | None = None
    model: str | None = None
    params: dict[str, Any] = {}
    response: str | None = None
    keep_state: bool = False


class ForkPlan(Struct):
    """A fork that has been thought through, nothing sent.

    Attributes:
        point: where it leaves the recording.
        edits: what it changes.
        url, body: of the request at the point with the edits in it.
        applied: what was changed there, in words.
        context: what the model is to see.
        diff: how the context differs from the recorded one.
        problems: why a provider would refuse it, and what else one should know.
    """

    point: ForkPoint
    edits: Edits
    url: str
    body: bytes
    applied: list[str]
    context: ForkContext
    diff: ContextDiff
    problems: list[str] = field(default_factory=list)


def draft_of(point: ForkPoint, kept: Kept, options: ForkOptions) -> Draft:
    """The request of a point with the options applied, for more editing.

    Raises:
        UsageError: an option fits nothing there.
    """
    draft = Draft.of(
        point.provider,
        point.url,
        point.body,
        turns=kept.turns,
        states=kept.states,
        keep_state=options.keep_state,
    )
    draft.remove_last(options.remove_last)
    if options.replace_last is not None:
        draft.replace_last(options.replace_last)
    for call_id, text in options.tool_results:
        draft.set_tool_result(call_id, text)
    for role, text in options.append:
        draft.append(role, text)
    draft.set_system, draft.model = options.set_system, options.model
    draft.params = dict(options.params)
    return draft


def plan_fork(point: ForkPoint, draft: Draft, options: ForkOptions, context: ForkContext) -> ForkPlan:
    """The fork that a draft makes.

    Args:
        context: the recorded context, as `SnapshotRestorer` gives it.

    Raises:
        UsageError: the answer to give is malformed.
    """
    edits = draft.edits()
    done = rewrite(edits, point.provider, point.body, point.url)
    if done.blocked is not None:
        raise UsageError(done.blocked)
    if options.response is not None:
        edits = _with_response(edits, point, done.url, done.body, options.response)
    after = PROVIDERS[point.provider].parse_request(done.url, done.body)
    edited = _edited(context, after)
    notes = [f"not done: {text}" for text in done.missed]
    if after.partial is not None:
        notes.append(after.partial)
    return ForkPlan(
        point=point,
        edits=edits,
        url=done.url,
        body=done.body,
        applied=done.applied + (["the answer"] if edits.response is not None else []),
        context=edited,
        diff=_difference(point.snapshot, draft.context, after),
        problems=[*edited.problems(), *notes],
    )


def _with_response(edits: Edits, point: ForkPoint, url: str, body: bytes, given: str) -> Edits:
    """The edits with an answer to give; a Responses answer can be leaned on, so its items are kept."""
    recorded = Recorded(point.status, tuple(point.answer_headers), point.answer_body)
    answer = build_answer(point.provider, url, body, read_said(point.provider, given), recorded)
    turns = dict(edits.turns)
    if point.provider == "openai_responses":
        parsed = PROVIDERS[point.provider].parse_response(url, answer.body, None, 200, True)
        if parsed.response_id:
            items = [decode_json(raw) for raw in items_of(JsonObject(body))]
            turns[parsed.response_id] = Turn(None, [*items, *_output_of(answer.body)])
    return replace(edits, response=answer, turns=turns)


def _output_of(body: bytes) -> list[Any]:
    stream = read_stream(body, None)
    document = as_object(decode_json(body)) if stream is None else as_object(stream.items[-1].get("response"))
    return as_list(document.get("output"))


def _edited(context: ForkContext, after: Context) -> ForkContext:
    """The fork's context with what a request says in the place of what was recorded."""
    return replace(
        context,
        system_prompt=after.system_prompt or "",
        messages=[_fork_message(message) for message in after.messages],
        model=after.model,
        tools=list(after.tools),
        params=dict(after.params),
        partial=after.partial,
    )


def _fork_message(message: CtxMessage) -> ForkMessage:
    return ForkMessage(
        role=message.role,
        content=message.content,
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
        tool_calls=message.tool_calls,
        parts=message.parts,
    )


def _difference(snapshot: RecordEvent, before: Context, after: Context) -> ContextDiff:
    return compute_context_diff(_snapshot_data(before), _snapshot_data(after), snapshot, snapshot)


def _snapshot_data(context: Context) -> ContextSnapshotData:
    return ContextSnapshotData(
        messages=list(context.messages),
        system_prompt=context.system_prompt,
        tools=context.tools,
        params=context.params,
        provider=context.provider,
        model=context.model,
    )
