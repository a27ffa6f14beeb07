"""The server that a program asks when it is run again: the recorded one, or another that was chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from unspool.capture.credentials import REDACTED
from unspool.cli.terminal import note
from unspool.errors import UsageError
from unspool.events import RecordMetadata
from unspool.providers import PROVIDERS
from unspool.providers.vendors import vendor_of_host
from unspool.recording.reader import RecordReader
from unspool.replay.livecall import based_on
from unspool.text import show_text

__all__ = ["rules_for_server", "say_server", "urls_of"]

# The variable that the vendor's SDK goes by, and others that programs have for the same.
_VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "anthropic": ("ANTHROPIC_BASE_URL",),
    "google": ("GOOGLE_GEMINI_BASE_URL",),
}


def rules_for_server(base_url: str | None, root: RecordMetadata, calls: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a plan that have a program ask another server; none without one.

    Args:
        base_url: as the vendor's SDK takes it.
        root: of the recording that is run again: it says which variables the program had.
        calls: name of the provider and recorded URL of the model calls that are meant.

    Raises:
        UsageError: it is no URL, or the calls went to several servers, or to one that no variable names.
    """
    if base_url is None:
        return {}
    environ: dict[str, str] = {}
    moves: dict[tuple[str, str], None] = {}
    for provider, url in dict.fromkeys(calls):
        names = _VARIABLES.get(PROVIDERS[provider].vendor) if provider in PROVIDERS else None
        if names is None or vendor_of_host(url) == "azure":
            raise UsageError(
                f"--base-url: it is not known how a program that asks {show_text(_origin(url), 200)} is told another "
                "server. Change the program, or send the one request with --send"
            )
        moves[_beginnings(based_on(base_url, provider, url), url)] = None
        environ |= dict.fromkeys((names[0], *(one for one in names[1:] if one in (root.env or {}))), base_url)
    if len(moves) > 1:
        asked = ", ".join(show_text(old, 200) for _, old in moves)
        raise UsageError(f"--base-url is one server, and the run asked several ({asked}): it cannot stand for them all")
    move = next(iter(moves), None)
    return {"environ": environ, "moved": move if move is not None and move[0] != move[1] else None}


def say_server(root: RecordMetadata, *, base_url: str | None) -> None:
    """Say which server a program will ask where this environment names another than the recording."""
    if base_url is not None or root.env is None:
        return
    for name in (name for names in _VARIABLES.values() for name in names):
        now, then = os.environ.get(name), root.env.get(name)
        if not now or now == then or REDACTED in (then or ""):  # what was not recorded is taken from here
            continue
        kept = f"as recorded, {show_text(then, 200)}" if then else "not set, as when it was recorded"
        note(f"unspool: {name} is {kept}, and not {show_text(now, 200)} as here. For another server: --base-url URL")


def urls_of(readers: Sequence[RecordReader]) -> list[tuple[str, str]]:
    """Provider and URL of every model call of these recordings, each once."""
    found: dict[tuple[str, str], None] = {}
    for reader in readers:
        for event in reader.bare_events():
            data = event.context
            if data is not None and data.provider is not None and data.request is not None:
                found[data.provider, reader.with_head(data.request).url or ""] = None
    return list(found)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _beginnings(new: str, old: str) -> tuple[str, str]:
    """What is left of two URLs of the same request without the end that their paths have in common."""
    here, there = (urlsplit(url).path.split("/") for url in (new, old))
    while here and there and here[-1] == there[-1] and (here[-1] or len(here) > 1):
        here.pop()
        there.pop()
    return _origin(new) + "/".join(here), _origin(old) + "/".join(there)
