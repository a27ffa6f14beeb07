"""The report of `unspool blame` for programs."""

from __future__ import annotations

import json
from typing import Any

from unspool.cli.subjects import Subject
from unspool.cli.suspects import suspects_json
from unspool.trace.carried import CarriedCost
from unspool.trace.errors_chain import error_message
from unspool.trace.repeats import Loop, Retry
from unspool.trace.report import TraceReport
from unspool.trace.rollup import GROUPS, Share
from unspool.trace.spans import Span

__all__ = ["blame_json"]


def blame_json(subject: Subject, report: TraceReport) -> dict[str, Any]:
    """The wire form of the blame, and beside it all else that was found; durations in nanoseconds."""
    document: dict[str, Any] = json.loads(report.result.to_json())
    document["name"] = subject.name
    document["records"] = [one.reader.record_id for one in subject.recorded.processes]
    document["rollups"] = {group: [_share(row) for row in report.shares(group)] for group in GROUPS}
    document["carried"] = None if report.carried is None else _carried(report.carried, subject)
    document["retries"] = [_retry(one, subject) for one in report.retries]
    document["loops"] = [_loop(one, subject) for one in report.loops]
    document["unfinished"] = [_span(one, subject) for one in report.unfinished]
    document["handled"] = [_span(one.root_cause, subject) for one in report.handled]
    document["suspects"] = suspects_json(subject)
    document["notes"] = [*report.tree.notes, *subject.skipped]
    return document


def _share(row: Share) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "pid": row.pid or None,
        "calls": row.calls,
        "errors": row.errors,
        "critical_ns": row.critical,
        "self_time_ns": row.self_time,
        "longest_ns": row.longest,
        "tokens": row.tokens,
        "cost_usd": row.cost_usd,
        "unpriced_calls": row.unpriced,
    }


def _carried(carried: CarriedCost, subject: Subject) -> dict[str, Any]:
    return {
        "input_tokens": carried.input_tokens,
        "input_usd": carried.input_usd,
        "output_usd": carried.output_usd,
        "unread_tokens": carried.unread_tokens,
        "unread_usd": carried.unread_usd,
        "unpriced_calls": carried.unpriced,
        "entries": [
            {
                "kind": entry.producer.kind,
                "name": entry.producer.name,
                "span_id": entry.producer.span.span_id,
                "place": subject.place_of(entry.producer.span),
                "tokens": entry.tokens,
                "sends": entry.sends,
                "sent_tokens": entry.sent_tokens,
                "cached_tokens": entry.cached_tokens,
                "cost_usd": entry.cost_usd,
                "first_usd": entry.first_usd,
                "carried_usd": entry.carried_usd,
            }
            for entry in carried.entries
        ],
    }


def _retry(retry: Retry, subject: Subject) -> dict[str, Any]:
    return {
        "attempts": [_span(span, subject) for span in retry.attempts],
        "failures": len(retry.failures),
        "succeeded": retry.succeeded,
        "reason": retry.reason,
        "lost_ns": retry.lost,
    }


def _loop(loop: Loop, subject: Subject) -> dict[str, Any]:
    return {
        "calls": [span.name for span in loop.spans[: loop.period]],
        "rounds": loop.rounds,
        "consecutive": loop.consecutive,
        "same_results": loop.same_results,
        "wasted_ns": loop.wasted,
        "tokens": loop.tokens,
        "cost_usd": loop.cost_usd,
        "spans": [_span(span, subject) for span in loop.spans],
    }


def _span(span: Span, subject: Subject) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "kind": span.kind,
        "name": span.name,
        "pid": span.pid,
        "place": subject.place_of(span),
        "status": str(span.status),
        "start_time_ns": span.start_time_ns,
        "duration_ns": span.duration,
        "message": error_message(span),
    }
