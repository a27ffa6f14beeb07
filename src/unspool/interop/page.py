"""A trace as one HTML page that needs nothing else: the tree, folded by its branches, with bars on one axis of time."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from unspool.durations import format_duration
from unspool.interop.otlp import OTLP
from unspool.recording.lines import to_wire
from unspool.text import escape_controls
from unspool.trace.names import ERROR_MESSAGE, text_of
from unspool.trace.report import has_times
from unspool.trace.spans import Span, SpanStatus, interval_of, is_failing
from unspool.trace.tree import SpanNode, SpanTree

__all__ = ["html_page"]

_OPEN_DEPTH: Final = 3  # levels that are unfolded at first
_ATTRIBUTE_MAX: Final = 20_000  # characters of one value
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--llm:#d9822b;--tool:#3f8f4f;--agent:#5b7db1;--other:#a08a62;--bad:#c0392b}
body{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;margin:24px auto;max-width:1400px;padding:0 16px}
h1{font-size:18px;margin:0 0 4px}p{margin:0 0 16px;opacity:.75}
details{margin-left:14px;border-left:1px solid var(--line);padding-left:6px}body>details{margin-left:0;border:0}
summary,.leaf{display:grid;grid-template-columns:minmax(12em,1fr) 7em 7em 7em minmax(10em,40%);gap:8px;cursor:pointer}
.leaf{margin-left:14px;padding-left:6px;border-left:1px solid var(--line)}
.n{overflow:hidden;white-space:nowrap;text-overflow:ellipsis}.r{text-align:right}
.t{position:relative;background:#8881;height:14px;align-self:center;border-radius:2px}
.b{position:absolute;top:0;bottom:0;min-width:2px;border-radius:2px}
.llm{background:var(--llm)}.tool{background:var(--tool)}.agent{background:var(--agent)}.other{background:var(--other)}
.bad{color:var(--bad)}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 8px 20px;opacity:.85;font-size:12px}
"""


def html_page(tree: SpanTree) -> str:
    """The page. Everything a run says is escaped; nothing is loaded from elsewhere, and there is no script."""
    root = tree.root.span
    metadata = tree.metadata
    start = metadata.start_time_ns
    whole = max(metadata.end_time_ns - start, 1)
    cost = f", ${metadata.total_cost_usd:.4f}" if metadata.total_cost_usd is not None else ""
    facts = (
        f"trace {tree.trace_id} · {metadata.total_spans} spans · "
        f"{format_duration(metadata.total_duration) if has_times(tree) else 'no times'} · "
        f"{metadata.total_tokens:,} tokens{cost} · {metadata.error_count} errors"
    )
    title = _safe(root.name or "trace")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style></head>'
    )
    notes = "".join(f"<p>{_safe(note)}</p>" for note in tree.notes)
    body = "".join(_pieces(tree, start, whole if has_times(tree) else 0))
    return f"{head}<body><h1>{title}</h1><p>{_safe(facts)}</p>{notes}{body}</body></html>\n"


def _pieces(tree: SpanTree, start: int, whole: int) -> list[str]:
    """The lines of the tree, without recursion: a trace may be deeper than Python's stack.

    Args:
        whole: how long all of it took; 0 where no times are known.
    """
    out: list[str] = []
    waiting: list[tuple[SpanNode | str, int]] = [(tree.root, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, str):
            out.append(node)
            continue
        opened = " open" if depth < _OPEN_DEPTH and node.children else ""
        facts = _facts(node.span)
        out.append(f"<details{opened}><summary>{_line(node.span, start, whole)}</summary>{facts}")
        waiting.append(("</details>\n", 0))
        waiting += [(child, depth + 1) for child in reversed(node.children)]
    return out


def _line(span: Span, start: int, whole: int) -> str:
    begin, end = interval_of(span, start + whole)
    left, width = ((begin - start) / whole * 100, (end - begin) / whole * 100) if whole else (0.0, 0.0)
    failed = is_failing(span)
    mark = "✗ " if failed else "… " if span.status is SpanStatus.OPEN else ""
    tokens = "?" if span.tokens_used is None else f"{span.tokens_used:,} tok" if span.tokens_used else ""
    cost = f"${span.cost_usd:.4f}" if span.cost_usd is not None else ""
    css = " bad" if failed else ""
    kind = span.kind if span.kind in ("llm", "tool", "agent") else "other"
    bar = f'<span class="b {kind}" style="left:{left:.3f}%;width:{width:.3f}%"></span>' if whole else ""
    hover = _safe(text_of(span, ERROR_MESSAGE) or span.name)
    return (
        f'<span class="n{css}" title="{hover}">{mark}{_safe(span.name)}</span>'
        f'<span class="r">{format_duration(end - begin) if whole else "?"}</span><span class="r">{tokens}</span>'
        f'<span class="r">{cost}</span><span class="t">{bar}</span>'
    )


def _facts(span: Span) -> str:
    attributes = {name: value for name, value in span.attributes.items() if name != OTLP}
    lines = [f"{name}: {_value(value)}" for name, value in attributes.items()]
    lines += [f"event {event.name}: {_value(event.attrs)}" for event in span.events]
    return f"<pre>{_safe(chr(10).join(lines))}</pre>" if lines else ""


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(to_wire(value), ensure_ascii=False, default=str)
    return text if len(text) <= _ATTRIBUTE_MAX else f"{text[:_ATTRIBUTE_MAX]}… ({len(text):,} characters)"


def _safe(text: str) -> str:
    return escape(escape_controls(text, keep="\n\t"), quote=True)
