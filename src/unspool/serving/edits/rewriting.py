"""Applying a fork's edits to a request that a program is about to send."""

from __future__ import annotations

from types import ModuleType
from typing import Final, NamedTuple, cast

from unspool.serving.edits import anthropic, gemini, openai_chat, openai_responses
from unspool.serving.edits.edits import Change, Edits, Insert, Remove, Replace
from unspool.serving.edits.json_text import JsonObject
from unspool.serving.edits.states import rebuild
from unspool.serving.edits.units import Dialect, Unit

__all__ = ["DIALECTS", "Rewritten", "apply_changes", "belongs", "dialect_of", "rewrite"]

_MODULES: Final[dict[str, ModuleType]] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
}
DIALECTS: Final[dict[str, Dialect]] = {name: cast("Dialect", module) for name, module in _MODULES.items()}
"""By the name of the provider; one entry and one module each."""


class Rewritten(NamedTuple):
    """A request with the edits in it.

    Attributes:
        body: the bytes given if nothing was changed.
        url: where to send it; some providers name the model there.
        applied: what was changed, in words.
        missed: edits of this conversation that the request does not hold the place for.
        blocked: why it must not be sent; None if it may.
    """

    body: bytes
    url: str
    applied: list[str]
    missed: list[str]
    blocked: str | None = None


def dialect_of(provider: str) -> Dialect | None:
    """How conversations of a wire format are edited; None where they cannot be."""
    return DIALECTS.get(provider)


def rewrite(edits: Edits, provider: str, body: bytes, url: str = "") -> Rewritten:
    """Apply edits to a request. Those of other conversations come back as they are.

    Args:
        provider: the wire format of the request.
        body: as the program is about to send it.
        url: where it is about to send it.
    """
    dialect = DIALECTS.get(provider)
    if dialect is None or provider != edits.provider:
        return Rewritten(body, url, [], [])
    try:
        document = JsonObject(body)
        state = rebuild(document, edits, url)
        if state.blocked is not None:
            return Rewritten(body, url, [], [], state.blocked)
        units = dialect.read(document)
        inside = belongs(edits, dialect.system(document), units, leans=state.leans)
        applied = [] if state.applied is None else [state.applied]
        kept, missed = apply_changes(edits.changes, dialect, units, applied, edits.digests, inside=inside)
        if kept is not None:
            dialect.write(document, kept)
        if inside:  # after the messages: they are known by their places
            url = _settings(edits, dialect, document, url, applied)
    except (ValueError, RecursionError) as exc:
        return Rewritten(body, url, [], [f"a request could not be read, so it was not edited: {exc}"])
    return Rewritten(document.to_bytes(), url, applied, missed if inside and not state.leans else [])


def belongs(edits: Edits, system: str | None, units: list[Unit], *, leans: bool) -> bool:
    """Whether a request is part of the conversation the edits were made in.

    The same system prompt, and a message in common: the first one, or any later one (histories are cut at the front,
    and put together into summaries). Where the provider keeps the messages the system prompt decides.
    """
    if system != edits.system:
        return False
    if leans or not edits.digests or not units:
        return True
    known = set(edits.digests)
    return any(unit.digest in known for unit in units)


def _settings(edits: Edits, dialect: Dialect, document: JsonObject, url: str, applied: list[str]) -> str:
    if edits.set_system is not None:
        dialect.set_system(document, edits.set_system)
        applied.append("system prompt")
    if edits.model is not None:
        url = dialect.set_model(document, url, edits.model)
        applied.append(f"model {edits.model}")
    for name, value in edits.params.items():
        dialect.set_param(document, name, value)
        applied.append(f"{name} removed" if value is None else f"{name} set")
    return url


def apply_changes(
    changes: list[Change], dialect: Dialect, units: list[Unit], applied: list[str], digests: list[str], *, inside: bool
) -> tuple[list[Unit] | None, list[str]]:
    """The messages with the changes in them, None if there are none; and the changes that found no place.

    Outside the conversation a change is made only where the history up to it is the same (a hand-over to another
    agent), or where the message is known by the id of a call.

    Args:
        units: the messages; their texts are changed in place.
        applied: what was changed is added here.
        digests: of the messages the edits were made in.
    """
    places = {(unit.digest, unit.occurrence): index for index, unit in enumerate(units)}
    removed: set[int] = set()
    behind: dict[int, list[Unit]] = {}
    missed: list[str] = []
    done = False
    for change in changes:
        index = -1
        if change.digest is not None:
            found = places.get((change.digest, change.occurrence))
            waits = isinstance(change, Replace) and change.after > 0
            if found is None or not (inside or _is_known(units, found, digests)):
                if not waits:  # a message that is to go later may not have come yet
                    missed.append(_missed(change))
                continue
            if isinstance(change, Replace) and waits and _outputs_behind(units, found) < change.after:
                continue
            index = found
        elif not inside:
            continue
        done = True
        if isinstance(change, Replace):
            dialect.set_text(units[index], change.text)
            applied.append(f"{change.label} replaced")
        elif isinstance(change, Remove):
            gone = units[index]
            removed.add(index)
            removed.update(i for i, unit in enumerate(units) if gone.calls and unit.answers is gone)
            applied.append(f"{change.label} removed")
        else:
            behind.setdefault(index, []).extend(dialect.say(one.role, one.text) for one in change.said)
            applied.append(f"{_counted(len(change.said))} added {change.label}")
    if not done:
        return None, missed
    kept = list(behind.get(-1, []))
    for index, unit in enumerate(units):
        if index not in removed:
            kept.append(unit)
        kept += behind.get(index, [])
    return kept, missed


def _outputs_behind(units: list[Unit], index: int) -> int:
    return sum(unit.role == "assistant" for unit in units[index + 1 :])


def _is_known(units: list[Unit], index: int, digests: list[str]) -> bool:
    unit = units[index]
    if any(call.id for call in unit.calls) or (unit.result_of is not None and unit.result_of.id):
        return True
    return [one.digest for one in units[: index + 1]] == digests[: index + 1]


def _missed(change: Change) -> str:
    what = f"messages to add {change.label}" if isinstance(change, Insert) else change.label
    return f"{what}: a later request of the conversation does not hold the message any more; it went without this edit"


def _counted(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
