"""The web view: pages over the recordings of a store, and one-file reports. Needs `pip install 'unspool[web]'`.

A view only: it reads the same files with the same functions as the command line, holds nothing that is not on disk,
and changes nothing. A page is a route, data and a template; drawings are functions from data to SVG text.
"""

from __future__ import annotations

__all__ = ["web_is_installed"]


def web_is_installed() -> str | None:
    """The name of a missing library that pages need; None if all are there."""
    from importlib.util import find_spec

    return next((name for name in ("jinja2", "starlette", "uvicorn") if find_spec(name) is None), None)
