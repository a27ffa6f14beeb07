"""Templates with everything escaped: whatever is put into a page is text, unless a drawing of ours made it markup."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from unspool import __version__
from unspool.cli import amounts
from unspool.durations import format_duration
from unspool.text import escape_controls

__all__ = ["STATIC", "compile_templates", "html", "integrity", "macro", "short", "static_text"]

STATIC: Final[dict[str, str]] = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "fork.css": "text/css",
    "fork.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@cache
def static_text(name: str) -> str:
    """One of the static files."""
    return files("unspool.web").joinpath("static", name).read_text(encoding="utf-8")


def integrity(text: str) -> str:
    """The hash by which a policy allows exactly this inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _template(name: str) -> str | None:
    found = files("unspool.web").joinpath("templates", name)
    return found.read_text(encoding="utf-8") if found.is_file() else None


def _safe(value: Any) -> Any:
    """What every expression of a template gives: controls and reordering marks written out, never acted on."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return escape_controls(value, keep="\n\t")


def short(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words where one ends not far before, with `…` if anything is cut off."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    if not text[limit - 1].isspace() and len(words := kept.rsplit(maxsplit=1)) == 2 and len(words[0]) > limit // 2:
        kept = words[0]
    return kept.rstrip() + "…"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
        auto_reload=False,
    )
    environment.filters["duration"] = format_duration
    environment.filters["tokens"] = amounts.tokens
    environment.filters["dollars"] = amounts.cost
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["counted"] = amounts.counted
    environment.filters["short"] = short
    # Drawings are made by our own functions, which escape what they take from recordings.
    environment.filters["drawing"] = Markup
    environment.globals["version"] = __version__
    return environment


def macro(template: str, name: str, *args: Any) -> str:
    """A part of a page: what a macro of a template gives."""
    return str(getattr(_environment().get_template(template).module, name)(*args))


def compile_templates() -> None:
    """Make ready what pages are made of, so that the first of each kind is as quick as the next."""
    for name in (
        "run.html",
        "step.html",
        "diff.html",
        "stepcontext.html",
        "context.html",
        "blame.html",
        "working.html",
    ):
        _environment().get_template(name)


def html(template: str, **context: Any) -> str:
    """A page."""
    return _environment().get_template(template).render(**context)
