"""The agent's side of a rerun: what each request gets instead of the network.

`meet` decides about a request before anything leaves: served from the recording, sent for real where the rules of the
rerun allow that, or the end of the program. Faults of our own count as no answer: a rerun never sends by mistake.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NoReturn

from unspool import providers
from unspool.capture import rerun
from unspool.capture.flow import QUIET, Flow, current_flow, quiet
from unspool.capture.meeting import Meeting, Request
from unspool.capture.places import callers
from unspool.capture.stopping import stop_with

if TYPE_CHECKING:
    from unspool.events import LLMResponseData
    from unspool.providers import Provider
    from unspool.serving.edits import Rewritten
    from unspool.serving.journal import Entry
    from unspool.serving.plan import Offer
    from unspool.serving.stage import Match, Stage

__all__ = [
    "FOR_REAL",
    "MODEL_CALL",
    "Meeting",
    "diverge",
    "meet",
    "permit",
    "spent",
]

_BODY_MODE: Final = 0o600

# Set inside a tool that `--live-tools` lets run: requests that the recording does not hold go out.
FOR_REAL: ContextVar[bool] = ContextVar("unspool_for_real", default=False)
# Whether the request that is being sent is a model call: those the rules of the rerun may allow, `--deny net` or not.
MODEL_CALL: ContextVar[bool] = ContextVar("unspool_model_call", default=False)


# --- what a request gets ---------------------------------------------------------------------------------------------


def meet(
    flow: Flow, provider: Provider | None, method: str, url: str, *, body: bytes | None, at: str | None
) -> Meeting:
    """Decide about a request of a rerun before it leaves; does not come back where it has no answer.

    Args:
        body: all of it.
        at: `file:line function` of the agent's code.
    """
    stage = rerun.stage()
    assert stage is not None
    request: Request | None = None
    try:
        with quiet():
            request = Request(flow, provider, method, url, body or b"")
            MODEL_CALL.set(provider is not None)
            return _meet(stage, request, at)
    except Exception as exc:  # noqa: BLE001 - a fault of ours is no leave to send
        reason = f"unspool failed to look for its answer: {type(exc).__name__}: {exc}"
        _stop(stage, request or Request(None, provider, method, url, body or b""), at, reason=reason)


def _meet(stage: Stage, request: Request, at: str | None) -> Meeting:
    from unspool.serving.served import Unservable

    plan = stage.plan
    match, key = _match(stage, request)
    if FOR_REAL.get() and request.provider is None:
        # What such a tool does is done for real; that it was recorded too makes no difference.
        return _send(stage, request, at, reason="asked by a tool that runs for real")
    if match is None:
        if stage.reached:
            return _send_edited(stage, request, at)
        return _unknown(stage, request, at, key)
    offer = match.offer
    if not stage.reached:
        missing = stage.skipped(offer, request.record_id, request.task)
        if missing is not None:
            reason = f"the program left out a model call that the recording has before this one (call {missing.call})"
            if plan.on_divergence != "live":
                _stop(stage, request, at, reason=reason, expected=missing)
            _note_divergence(stage, request, at, reason=reason, expected=missing)
        if plan.target is not None and offer.number == plan.target.offer:
            stage.reach()
            stage.let_go()
            return _at_target(stage, request, at, offer)
    try:
        answer = stage.answer(offer)
    except Unservable as exc:
        reason = f"the recording has this request, but cannot serve it: {exc}"
        if plan.on_divergence != "live":
            _stop(stage, request, at, reason=reason, expected=offer)
        return _send(stage, request, at, reason=reason)
    stage.note(_served(request, at, match))
    meeting = request.meeting("served", answer, offer=offer)
    meeting.turn = stage.turn(offer, request.record_id)
    return meeting


def _match(stage: Stage, request: Request) -> tuple[Match | None, str]:
    """The offer for a request, and its key. The recording of a fork holds some requests as the fork changed them.

    Where nothing fits, the request is left as all earlier forks together change it: that is how it is sent.
    """
    from unspool.serving.fingerprint import body_digest, request_key

    url = stage.plan.recorded_url(request.url)
    key = request_key(request.method, url, is_model_call=request.provider is not None)
    match = stage.match(key, body_digest(request.body), request.body, request.record_id, request.task)
    if match is not None or request.provider is None:
        return match, key
    for edits in rerun.inherited():
        from unspool.serving.edits import rewrite

        done = rewrite(edits, request.provider.name, request.body, request.sent_url)
        if done.body is request.body and done.url in ("", request.sent_url):
            continue
        request.change(done)
        key = request_key(request.method, stage.plan.recorded_url(request.url), is_model_call=True)
        match = stage.match(key, body_digest(request.body), request.body, request.record_id, request.task)
        if match is not None:
            break
    return match, key


def _served(request: Request, at: str | None, match: Match) -> Entry:
    offer = match.offer
    path = f"/dev/net/{offer.name}"
    if request.provider is not None:
        path = f"/dev/llm/{providers.vendor(request.provider, request.url)}/{offer.name or 'unknown'}"
    return request.entry("served", path, offer=offer.number, match=match.how, at=at)


def _unknown(stage: Stage, request: Request, at: str | None, key: str) -> Meeting:
    if FOR_REAL.get():
        return _send(stage, request, at, reason="asked by a tool that runs for real")
    expected = stage.expected(request.record_id, request.task)
    reason = _why_unknown(stage, request, key, expected)
    if stage.plan.on_divergence != "live":
        _stop(stage, request, at, reason=reason, expected=expected)
    return _send(stage, request, at, reason=reason, expected=expected)


def _why_unknown(stage: Stage, request: Request, key: str, expected: Offer | None) -> str:
    if request.flow is not None and request.source is None:
        return "it was made by an agent process that the recording does not have"
    from unspool.serving.fingerprint import body_digest

    if expected is not None and expected.unservable is not None and not expected.key:
        return f"the recording cannot tell what was asked: {expected.unservable}"
    same_key = [offer for offer in stage.offers if offer.key == key and offer.kind != "tool"]
    digest = body_digest(request.body)
    if any(offer.sha256 == digest for offer in same_key):
        return "the recording has this request, but fewer times than the program made it"
    if expected is None and request.record_id is not None:
        with_end = stage.reader(request.record_id).metadata
        if with_end.status == "interrupted":
            return "the recording was interrupted here: it holds nothing that came later"
        return "the recording holds no more requests: the program made one more"
    if same_key:
        return "no recorded request to this address has this body"
    return "the recording holds no request to this address"


# --- a fork ----------------------------------------------------------------------------------------------------------


def _at_target(stage: Stage, request: Request, at: str | None, offer: Offer) -> Meeting:
    """The request a fork was made for: answered with the edited answer, or sent with the edits."""
    edits = rerun.edits()
    if edits is not None and (given := edits.response) is not None:
        stage.note(request.entry("edited", request.path(), offer=offer.number, at=at, detail={"answered": True}))
        from unspool.serving.served import Answer

        answer = Answer(given.status, given.reason, list(given.headers), given.pieces())
        return request.meeting("edited", answer, offer=offer)
    return _send_edited(stage, request, at, offer)


def _send_edited(stage: Stage, request: Request, at: str | None, target: Offer | None = None) -> Meeting:
    """Send a request behind the point of a fork, or at it, with the edits applied if it is a model call."""
    if request.provider is None:
        stage.note(request.entry("live", request.path(), at=at))
        return Meeting("live")
    done: Rewritten | None = None
    edits = rerun.edits()
    if edits is not None:
        from unspool.serving.edits import rewrite

        done = rewrite(edits, request.provider.name, request.body, request.sent_url)
        if done.blocked is not None:
            _stop(stage, request, at, reason=done.blocked)
        for missed in done.missed:
            stage.note(request.entry("note", request.path(), at=at, reason=missed))
    detail: dict[str, object] = {"call": _live_call(stage, request, at)}
    if done is not None:
        detail["applied"] = done.applied
        request.change(done)
    kind = "live" if target is None else "edited"
    stage.note(
        request.entry(kind, request.path(), at=at, offer=target.number if target is not None else None, detail=detail)
    )
    return request.meeting("live", offer=target)


def _live_call(stage: Stage, request: Request, at: str | None) -> int:
    """Count one more live model call; does not come back where a limit allows no more."""
    if stage.plan.is_left_behind(request.url):
        named = ", ".join(stage.plan.environ)
        moved = f"the program asks its old server, not that of --base-url: it does not go by {named}"
        _stop(stage, request, at, reason=moved)
    limit = stage.plan.max_cost_usd
    if limit is not None and stage.plan.prices:
        from unspool.serving.spending import why_no_more

        reason = why_no_more(stage.folder, limit)
        if reason is not None:
            _stop(stage, request, at, reason=reason)
    number = stage.live_call()
    if number is None:
        reason = f"the limit of {stage.plan.max_calls} live model calls is used up (--max-calls)"
        _stop(stage, request, at, reason=reason)
    return number


def spent(path: str, data: LLMResponseData) -> None:
    """Count what an answered live call cost, where that is limited. Answers that are errors cost nothing.

    Args:
        path: the device path of the call.
    """
    stage = rerun.stage()
    if stage is None or stage.plan.max_cost_usd is None or not stage.plan.prices:
        return
    from unspool.serving.spending import note_cost, price_of

    asked = path.removeprefix("/dev/llm/")
    given = f"{asked.partition('/')[0]}/{data.model}"
    tokens_in, tokens_out = data.request_tokens, data.response_tokens
    price = price_of(stage.plan.prices, (given, asked), tokens_in or 0)
    cost: float | None = 0.0 if data.error is not None else None
    if price is not None and tokens_in is not None and tokens_out is not None:
        cost = price.cost(tokens_in, tokens_out, data.cached_tokens or 0, data.cache_write_tokens or 0)
    with quiet():
        note_cost(stage.folder, cost)


def _send(stage: Stage, request: Request, at: str | None, *, reason: str, expected: Offer | None = None) -> Meeting:
    """Send a request that the recording cannot answer, as it is."""
    # Behind the first divergence all that follows differs as well.
    if not FOR_REAL.get():
        stage.let_go()
        if stage.claim("diverged"):
            _note_divergence(stage, request, at, reason=reason, expected=expected)
    detail: dict[str, object] = {}
    if request.provider is not None:
        detail["call"] = _live_call(stage, request, at)
    stage.note(request.entry("live", request.path(), at=at, reason=reason, detail=detail))
    return Meeting("live")


# --- where there is no answer ----------------------------------------------------------------------------------------


def permit(method: str, url: str) -> None:
    """Called by a seam that is about to send what is no exchange; in a rerun only what is part of one comes back."""
    stage = rerun.stage()
    if stage is None or rerun.is_left_out(method, url):
        return
    may_be_live = stage.plan.on_divergence == "live" or bool(stage.plan.live_tools) or stage.reached
    if QUIET.get() and may_be_live:
        return  # part of what is sent for real
    from unspool.capture.guard import guard

    fault = guard.last
    reason = "it was made where nothing is recorded"
    if fault is not None:
        reason += f" (unspool failed before: {type(fault).__name__}: {fault})"
    diverge(method, url, b"", reason)


def diverge(method: str, url: str, body: bytes, reason: str, *, expected: Offer | None = None) -> NoReturn:
    """Stop the program at something that must not happen for real, or cannot be served."""
    stage = rerun.stage()
    assert stage is not None
    with quiet():
        provider = providers.match(method, url)
        _stop(stage, Request(current_flow(), provider, method, url, body), None, reason=reason, expected=expected)


def _note_divergence(
    stage: Stage, request: Request, at: str | None, *, reason: str, expected: Offer | None = None
) -> None:
    """Write down where the program left the recording."""
    stack = callers()
    body = _keep_body(stage, request.body) if request.body else None
    stage.note(
        request.entry(
            "divergence",
            request.path(),
            offer=expected.number if expected is not None else None,
            at=at or next(iter(stack), None),
            stack=stack,
            reason=reason,
            body=body,
        )
    )


def _keep_body(stage: Stage, body: bytes) -> str:
    number = 1
    while True:
        name = f"divergence-{number}.body"
        try:
            fd = os.open(stage.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _BODY_MODE)
        except FileExistsError:
            number += 1
            continue
        with open(fd, "wb") as file:
            file.write(body)
        return name


def _stop(stage: Stage, request: Request, at: str | None, *, reason: str, expected: Offer | None = None) -> NoReturn:
    """Write the divergence down and end this OS process: nothing more may happen for real."""
    stop_with(lambda: _note_divergence(stage, request, at, reason=reason, expected=expected), reason)
