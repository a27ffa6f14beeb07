"""Requests that lean on state the provider keeps: said in full, from the calls that were recorded.

A served call has not been sent, and an edited one was sent as something else: what the provider keeps under a recorded
id is not the conversation of this run. State that was made behind the fork is, and requests that lean on it go out as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from unspool.providers import PROVIDERS
from unspool.providers.wire import as_object, as_text
from unspool.serving.edits import openai_responses
from unspool.serving.edits.edits import Edits, Turn
from unspool.serving.edits.json_text import JsonObject, decode, encode

__all__ = ["Rebuilt", "rebuild", "state_of"]


class Rebuilt(NamedTuple):
    """What became of a request that leans on state.

    Attributes:
        applied: what was done, None if it leans on nothing.
        leans: it still leans on state, made in this run.
        blocked: why it must not be sent.
    """

    applied: str | None = None
    leans: bool = False
    blocked: str | None = None


def rebuild(document: JsonObject, edits: Edits, url: str) -> Rebuilt:
    """Put recorded calls in the place of ids of recorded state, in `document`."""
    if edits.keep_state:
        return Rebuilt(leans=state_of(document, edits.provider, url) is not None)
    if edits.provider != "openai_responses":
        state = state_of(document, edits.provider, url)
        if state in edits.states:
            return Rebuilt(blocked=_unsendable(f"state {state}"))
        return Rebuilt(leans=state is not None)
    conversation = document.get("conversation")
    named = as_text(conversation) or as_text(as_object(conversation).get("id"))
    if named in edits.states:
        return Rebuilt(blocked=_unsendable(f"conversation {named}"))
    previous = as_text(document.get("previous_response_id"))
    if previous is not None and previous not in edits.turns:
        if previous in edits.states:
            return Rebuilt(blocked=_unsendable(f"response {previous}, whose call is not in the recording,"))
        return Rebuilt(leans=True)
    raws = openai_responses.items_of(document)
    try:
        before = [] if previous is None else list(_items_behind(previous, edits.turns))
        whole = _resolved([*map(encode, before), *raws], edits.turns)
    except LookupError as exc:
        return Rebuilt(blocked=_unsendable(str(exc.args[0])))
    if previous is None and whole == raws:
        return Rebuilt(leans=named is not None)
    document.set_elements("input", whole)
    document.remove("previous_response_id")
    said = "the references to stored items" if previous is None else f"previous_response_id {previous}"
    return Rebuilt(applied=f"sent in full, in place of {said}", leans=named is not None)


def _unsendable(what: str) -> str:
    return (
        f"the request leans on {what} that the provider keeps and this run has not made; it cannot be sent in full. "
        "To send it as it is, use --keep-state"
    )


def state_of(document: JsonObject, provider: str, url: str) -> str | None:
    """The id of the provider's state that a request leans on, None if it says all."""
    keys = ("thread", "cachedContent", "cached_content", "previous_response_id", "conversation")
    head = {key: document.get(key) for key in keys if key in document}
    return PROVIDERS[provider].read_head(url, head).state_ref


def _items_behind(response_id: str, turns: dict[str, Turn]) -> Iterator[Any]:
    """The items of a chain of calls, the first first.

    Raises:
        LookupError: one of them is not known; says which.
    """
    chain: list[Turn] = []
    seen: set[str] = set()
    current: str | None = response_id
    while current is not None:
        turn = turns.get(current)
        if turn is None or turn.missing is not None or current in seen:
            why = turn.missing if turn is not None and turn.missing else "whose call is not in the recording"
            raise LookupError(f"response {current}, {why},")
        seen.add(current)
        chain.append(turn)
        current = turn.previous
    for turn in reversed(chain):
        yield from turn.items


def _resolved(raws: list[bytes], turns: dict[str, Turn]) -> list[bytes]:
    """Items with references replaced by what they refer to.

    Raises:
        LookupError: one refers to what no call gave.
    """
    if not any(b'"item_reference"' in raw or b'"type"' not in raw for raw in raws):
        return raws
    known: dict[str, Any] | None = None
    out: list[bytes] = []
    for raw in raws:
        item = as_object(decode(raw))
        if openai_responses.item_kind(item) != "item_reference":
            out.append(raw)
            continue
        if known is None:
            known = {
                identity: one
                for turn in turns.values()
                for one in turn.items
                if (identity := as_text(as_object(one).get("id")))
                and openai_responses.item_kind(as_object(one)) != "item_reference"
            }
        identity = as_text(item.get("id")) or "?"
        if identity not in known:
            raise LookupError(f"item {identity}, which no recorded call gave,")
        out.append(encode(known[identity]))
    return out
