"""What somebody sees before being let in: a page that leads on if the token was right, or asks for it.

Neither holds anything of a recording, nor the token, nor a script.
"""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

__all__ = ["NO_TOKEN", "asking", "goal", "opening"]

NO_TOKEN: Final = (
    "This page needs the token that `unspool web` printed: open the whole address it gave, with ?token=… at its end.\n"
)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>unspool</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/static/app.css">
{head}</head>
<body><main>{main}</main></body></html>
"""
_ASKING: Final = """
<h1>{title}</h1>
<p>This server shows recordings only to whoever has its token. To get in:</p>
<ol>
<li>Look where <code>unspool web</code> was started: it printed an address that ends with <code>?token=…</code></li>
<li>Open that whole address in this browser.</li>
<li>Then <a href="{again}">open this page again</a>.</li>
</ol>
<p class="quiet">If a link on another site led here, the last of these may be enough: browsers then keep back that you
are in already.</p>
"""


def goal(path: str, query: bytes) -> str:
    """The address to go on to: the one that was asked for, without the token, and always one of this server."""
    # Two slashes at the beginning would name another server, and browsers take a backslash for a slash.
    here = "/" + quote(path.lstrip("/\\"), safe="/", errors="replace")
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    others = [(name, value) for name, value in fields if name != "token"]
    return f"{here}?{urlencode(others)}" if others else here


def opening(where: str) -> str:
    """A page that goes on to an address of this server by itself.

    A page and no redirect: a browser that came here by a link on another site would not send the cookie, which is
    SameSite=Strict, along the redirect; from this page it does.
    """
    href = escape(where)
    return _PAGE.format(
        head=f'<meta http-equiv="refresh" content="0;url={href}">', main=f'<p><a href="{href}">Open unspool</a></p>'
    )


def asking(where: str, *, was_wrong: bool = False) -> str:
    """A page that says how to get in.

    Args:
        where: the address that was asked for, as `goal` gives it.
        was_wrong: a token was given, which is not that of this server.
    """
    title = "That is not the token of this server" if was_wrong else "Not in yet"
    return _PAGE.format(head="", main=_ASKING.format(title=title, again=escape(where)))
