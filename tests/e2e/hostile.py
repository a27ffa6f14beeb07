"""A store in which every field that comes from outside means harm: markup, terminal controls, bidi, templates, size.

The run is a real one: a program (`agents/hostile_agent.py`) recorded while it talks to a server that is as bad. What
its texts would do is told by `OWNED`: the title of a page, or of a terminal, after one of them has run as code.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from unspool.store import Store

OWNED = "owned-7f3a"
HUGE = 5_000_000  # characters of the largest messages, which are one line each

_MARKUP = (
    f"</script></title></textarea></style></pre></svg>--><script>document.title='{OWNED}'</script>"
    f"<img src=x onerror=\"document.title='{OWNED}'\"><svg onload=\"document.title='{OWNED}'\"></svg>"
    f"<iframe srcdoc=\"<script>parent.document.title='{OWNED}'</script>\"></iframe><base href='https://x.invalid/'>"
    f"<meta http-equiv=refresh content='0;url=https://x.invalid/'><style>*{{display:none}}</style>"
    f"'\" onmouseover=document.title='{OWNED}' x='"
)
# Rich's and Textual's markup, Jinja's and others' templates, format strings.
_TEMPLATES = (
    "{{7*7}}{% raw %}{#c#}${7*7}#{7*7}<%= 7*7 %>{0}{x}%s%n[bold red]B[/] [link=http://x.invalid]L[/link] [/nothing]"
)
# A colour nothing of ours uses, a title, a link, a cleared screen (also as C1), a device string, backspaces.
_TERMINAL = f"\x1b[35;45;7mred\x1b[0m\x1b]0;{OWNED}\x07\x1b]8;;http://x.invalid\x1b\\link\x1b]8;;\x1b\\\x1b[2J\x9b2J\x1bP+q\x1b\\\x08\x08\x7f"
_BIDI = "\u202egnp.exe\u202c \u2066iso\u2069 \u200f\u200e\u061c \u2028\u2029"
NASTY_LINE = f"{_MARKUP} {_TEMPLATES} {_TERMINAL} {_BIDI} \x00\r"
NASTY = f"{NASTY_LINE}\n{'W' * 3000}\n\ud800 {NASTY_LINE}"

# What no terminal and no page may ever get from a recording. A line feed and a tab are text.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_PICTURES = [
    "data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIj48L3N2Zz4=",
    f"data:text/html,<script>document.title='{OWNED}'</script>",
    f"javascript:document.title='{OWNED}'",
    "https://x.invalid/pixel.png",
    f"data:image/png;base64,\" onerror=\"document.title='{OWNED}'",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
]


class _Server(BaseHTTPRequestHandler):
    """Answers as badly as the requests are; what is asked for decides nothing but the status."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status, "Bad<b>\x1b[35;45;7m")
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-nasty", f"<script>document.title='{OWNED}'</script>\x1b[35;45;7m\x9b2J{{{{7*7}}}}")
        self.send_header("x-request-id", f"<img src=x onerror=\"document.title='{OWNED}'\">\x1b[2J")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._send(404, NASTY.encode("utf-8", "surrogatepass"), "text/html")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 120_000, "completion_tokens": 7, NASTY_LINE: NASTY}
        call = {"id": NASTY_LINE, "type": "function",
                "function": {"name": NASTY_LINE, "arguments": json.dumps({"q": NASTY, NASTY: NASTY})}}  # fmt: skip
        message = {"role": "assistant", "content": NASTY, "reasoning_content": NASTY, "tool_calls": [call]}
        whole = {"id": NASTY_LINE, "model": NASTY_LINE, "object": "chat.completion", "usage": usage,
                 "choices": [{"index": 0, "message": message, "finish_reason": NASTY_LINE}]}  # fmt: skip
        if asked.get("fail"):
            error = {"error": {"message": NASTY, "type": NASTY_LINE, "code": NASTY_LINE}}
            self._send(500, json.dumps(error).encode())
        elif asked.get("stream"):
            pieces = [
                {"id": NASTY_LINE, "model": NASTY_LINE, "choices": [{"index": 0, "delta": {"content": NASTY}}]},
                {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": NASTY_LINE}], "usage": usage},
            ]
            lines = [f"event: {OWNED}\x1b[2J\ndata: {json.dumps(one)}\n\n" for one in pieces]
            self._send(200, "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream")
        else:
            self._send(200, json.dumps(whole).encode())


@contextlib.contextmanager
def _bad_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def environment() -> dict[str, str]:
    """This environment without what unspool itself put or reads there."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("UNSPOOL", "PYTHON", "COV_"))}


def record_hostile(folder: Path, huge: int = HUGE) -> Store:
    """A store in `folder` with the run of the hostile agent, and a fork file's worth of bad metadata."""
    plain = re.sub("[\x00\r\n\ud800\u2028\u2029]", "", NASTY_LINE)
    texts = folder / "texts.json"
    folder.mkdir(parents=True, exist_ok=True)
    texts.write_text(
        json.dumps({"nasty": NASTY, "line": NASTY_LINE, "plain": plain, "huge": huge, "pictures": _PICTURES})
    )
    store = Store(folder / "store")
    agent = Path(__file__).with_name("agents") / "hostile_agent.py"
    with _bad_server() as url:
        done = subprocess.run(
            [sys.executable, "-m", "unspool", "run", "--store", store.path, "--name", plain, "--",
             sys.executable, agent, url, texts, plain],
            capture_output=True, env=environment() | {"OPENAI_API_KEY": "sk-0"}, cwd=folder, check=False,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert b"the end" in done.stdout, done.stderr[-2000:]
    assert b"recording is incomplete" not in done.stderr, done.stderr[-2000:]
    return store
