"""Files of other tools, into the store: which belong together, what of them is there already, what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from unspool.errors import UnspoolError
from unspool.interop import claude_code, codex, langfuse, trajectories, vcr
from unspool.interop.formats import FORMATS, format_of
from unspool.interop.imported import Run
from unspool.interop.ingest import SpanSink, Taken
from unspool.interop.otlp import Received
from unspool.interop.otlp_json import read_json
from unspool.interop.otlp_proto import read_proto
from unspool.interop.reference import copy_recording, recordings_in
from unspool.interop.sources import ImportFault, Source, read_source
from unspool.interop.spans_run import run_of_spans
from unspool.interop.writing import WrittenProcess, origin_fields, write_run
from unspool.providers.wire import as_object, as_text
from unspool.recording.address import newest_first
from unspool.store import Store
from unspool.trace.quiet import gc_paused
from unspool.trace.storage import SpanReader
from unspool.trace.tree import unique_spans

__all__ = ["Imported", "import_paths", "result_as_json"]

_READERS: Final[dict[str, Callable[[Source], list[Run]]]] = {
    "codex": codex.read_codex,
    "langfuse": langfuse.read_langfuse,
    "tau-bench": trajectories.read_tau_bench,
    "tau2-voice": trajectories.read_tau2_voice,
    "swe-agent": trajectories.read_swe_agent,
    "mini-swe-agent": trajectories.read_mini_swe_agent,
    "who-and-when": trajectories.read_who_and_when,
}
_PROBLEMS_MAX: Final = 20


class Imported(Struct):
    """What became of one file, or of several that belong together.

    Attributes:
        paths: the files; what was found beside the one that was named included.
        format: "" where it is not known.
        traces: spans written, by trace id.
        already: what the store had of it before: record ids and trace ids.
        problems: what could not be read or written; with `failed` nothing was imported.
        notes: what there is to say besides.
    """

    paths: list[str]
    format: str = ""
    records: list[WrittenProcess] = []
    traces: dict[str, int] = {}
    already: list[str] = []
    problems: list[str] = []
    notes: list[str] = []
    failed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything in the files is in the store."""
        return not self.failed and not self.problems


def import_paths(
    paths: Iterable[Path],
    store: Store,
    *,
    format_name: str | None = None,
    again: bool = False,
    recordings: bool = False,
) -> list[Imported]:
    """Import files and folders; one that fails keeps no other from being imported.

    Args:
        format_name: one of `FORMATS`; by default that of each file by its content.
        again: import what is in the store already once more.
        recordings: make recordings of traces too, where their model calls carry messages.

    Raises:
        StoreError: the store cannot be written at all.
    """
    store.ensure()
    done: list[Imported] = []
    sessions: list[Source] = []
    known = {} if again else _known_digests(store)
    for path in _spread(paths, done):
        if path.is_dir():
            done.append(_copied(path, store))
            continue
        result = Imported([str(path)], format_name or "")
        try:
            source = read_source(path)
            result.format = format_name or format_of(source)
            if result.format == "claude-code":
                sessions.append(source)
                continue
            _import(source, result, store, known, again)
            if recordings and result.format == "otlp":
                _record(source, result, store, known)
        except UnspoolError as exc:
            result.failed = not result.records and not result.traces
            result.problems.append(str(exc))
        done.append(result)
    done += [_import_session(group, store, known) for group in _sessions(sessions)]
    for result in done:
        more = len(result.problems) - _PROBLEMS_MAX
        if more > 0:
            result.problems[_PROBLEMS_MAX:] = [f"… and {more} more"]
    return done


def _spread(paths: Iterable[Path], done: list[Imported]) -> Iterable[Path]:
    """Files, and folders that are recordings; other folders give what is in them."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        recordings = recordings_in(path)
        if recordings:
            yield from recordings
            continue
        files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        known = [one for one in files if _is_known(one)]
        if not known:
            done.append(Imported([str(path)], problems=[f"{path}: no file in it is in a format that is known"],
                                 failed=True))  # fmt: skip
        yield from known


def _is_known(path: Path) -> bool:
    """Whether a file of a folder is worth importing: a licence beside the data is no fault."""
    try:
        format_of(read_source(path))
    except ImportFault:
        return False
    return True


def _known_digests(store: Store) -> dict[str, list[str]]:
    """Record ids of what was imported before, by the digests of the files."""
    found: dict[str, list[str]] = {}
    for metadata in newest_first(store):
        imported = as_object(metadata.extra.get("imported"))
        if isinstance(digest := imported.get("sha256"), str):
            found.setdefault(digest, []).append(metadata.record_id)
    return found


def _import(source: Source, result: Imported, store: Store, known: dict[str, list[str]], again: bool) -> None:
    if result.format == "otlp":
        with gc_paused():
            taken = _take(source, store, again, result)
        result.traces, result.problems = taken.traces, [*source.problems, *taken.problems]
        return
    if source.sha256 in known:
        result.already = known[source.sha256]
        return
    origin = origin_fields(str(source.path), result.format, source.sha256)
    if result.format == "vcr":
        result.records = vcr.write_cassette(source, store, origin)
    elif result.format in _READERS:
        try:
            runs = _READERS[result.format](source)
        except RecursionError:
            raise ImportFault(f"{source.path}: nested too deeply") from None
        result.problems = source.problems
        for run in runs:
            result.records += write_run(run, store, origin)
        if not result.records:
            raise ImportFault(f"{source.path}: nothing in it is a run of {result.format}")
    else:
        raise ImportFault(f"{source.path}: no importer for {result.format!r}; there are: {', '.join(FORMATS)}")
    result.problems = source.problems


# --- spans -----------------------------------------------------------------------------------------------------------


def _take(source: Source, store: Store, again: bool, result: Imported) -> Taken:
    messages = list(_messages(source))
    if not any(received.groups for received in messages):
        raise ImportFault(f"{source.path}: {source.problems[0] if source.problems else 'no spans in it'}")
    known: dict[str, set[str]] = {}
    reader = SpanReader(store.traces)
    if not again:
        for trace_id in {span.trace_id for received in messages for _, spans in received.groups for span in spans}:
            if (store.traces / trace_id).is_dir():
                known[trace_id] = {span.span_id for span in reader.read_trace(trace_id)}
                result.already.append(trace_id)
    sink, whole = SpanSink(store), Taken()
    for received in messages:
        taken = sink.take(received, known=known)
        for trace_id, count in taken.traces.items():
            whole.traces[trace_id] = whole.traces.get(trace_id, 0) + count
        whole.rejected += taken.rejected
        whole.problems += taken.problems
    result.already = [trace_id for trace_id in result.already if trace_id not in whole.traces]
    return whole


def _messages(source: Source) -> Iterable[Received]:
    data = source.data
    if data[:1] == b"\n":
        try:
            yield read_proto(data)
        except ValueError as exc:
            raise ImportFault(f"{source.path}: {exc}") from exc
        return
    try:
        yield read_json(data)
        return
    except ValueError as exc:
        if data.count(b"\n", 0, len(data.rstrip())) == 0:
            raise ImportFault(f"{source.path}: {exc}") from exc
        whole_fault = str(exc)
    lines = data.split(b"\n")
    good = False
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield read_json(line)
                good = True
            except ValueError as exc:
                torn = " (the last line is torn)" if number == len(lines) else ""
                source.problems.append(f"line {number}: {exc}{torn}")
    if not good:
        source.problems.insert(0, whole_fault)


def _record(source: Source, result: Imported, store: Store, known: dict[str, list[str]]) -> None:
    """Make recordings of the traces of a file, as whole as they are in the store."""
    if source.sha256 in known:
        result.already += known[source.sha256]
        return
    reader = SpanReader(store.traces)
    for trace_id in dict.fromkeys((*result.traces, *result.already)):
        run = run_of_spans(unique_spans(reader.read_trace(trace_id))[0])
        if run is None:
            result.notes.append(f"trace {trace_id}: its model calls carry no messages, so there is no recording of it")
        else:
            origin = origin_fields(str(source.path), "otlp", source.sha256)
            result.records += write_run(run, store, origin)


# --- sessions of Claude Code -----------------------------------------------------------------------------------------


def _sessions(sources: Sequence[Source]) -> list[list[Source]]:
    """Files by session, with the sub-agents' files that lie where Claude Code puts them."""
    given = {source.path.resolve() for source in sources}
    groups: dict[str, list[Source]] = {}
    for source in sources:
        session = _session_of(source) or str(source.path)
        groups.setdefault(session, []).append(source)
    for session, group in groups.items():
        for source in list(group):
            for path in _beside(source.path, session):
                if path.resolve() in given:
                    continue
                given.add(path.resolve())
                try:
                    found = read_source(path)
                except ImportFault as exc:
                    source.problems.append(str(exc))
                    continue
                if _session_of(found) == session:
                    group.append(found)
    # The session's own file first: it is the one to name.
    return [sorted(group, key=lambda one: one.path.name.startswith("agent-")) for group in groups.values()]


def _beside(path: Path, session: str) -> list[Path]:
    if path.name.startswith("agent-"):
        return []
    found = [one for folder in (path.parent, path.parent / session / "subagents")
             for pattern in ("agent-*.jsonl", "agent-*.jsonl.gz") for one in folder.glob(pattern)]  # fmt: skip
    return sorted(found)


def _session_of(source: Source) -> str | None:
    """The session of a file: a resumed one begins with lines of the session before, so the last word holds."""
    probe = Source(source.path, source.data, source.sha256, [])
    named = [as_text(line.get("sessionId")) for _, line in probe.objects() if line.get("uuid")]
    stem = source.name.removesuffix(".jsonl")
    return stem if stem in named else next((one for one in reversed(named) if one), None)


def _import_session(group: list[Source], store: Store, known: dict[str, list[str]]) -> Imported:
    result = Imported([str(source.path) for source in group], "claude-code")
    digest = group[0].sha256
    if len(group) > 1:
        digest = hashlib.sha256("".join(sorted(source.sha256 for source in group)).encode()).hexdigest()
    if digest in known:
        result.already = known[digest]
        return result
    try:
        run = claude_code.read_sessions(group)
        result.problems = [problem for source in group for problem in source.problems]
        if run.processes:
            result.records = write_run(run, store, origin_fields(str(group[0].path), "claude-code", digest))
        elif not result.problems:
            result.notes = [f"{group[0].path}: no conversation in it, nothing to import"]
            return result
    except UnspoolError as exc:
        result.problems.append(str(exc))
    except RecursionError:
        result.problems.append(f"{group[0].path}: nested too deeply")
    result.failed = not result.records
    return result


def _copied(folder: Path, store: Store) -> Imported:
    result = Imported([str(folder)], "recording")
    try:
        written = copy_recording(folder, store)
    except UnspoolError as exc:
        result.problems.append(str(exc))
        result.failed = True
        return result
    if written is None:
        result.already = [folder.name]
    else:
        result.records.append(written)
    return result


def result_as_json(result: Imported) -> dict[str, Any]:
    """What a program reads of a result."""
    return {
        "files": result.paths,
        "format": result.format or None,
        "records": [
            {name: getattr(one, name) for name in one.__struct_fields__ if getattr(one, name) != -1}
            for one in result.records
        ],
        "traces": result.traces,
        "already_imported": result.already,
        "problems": result.problems,
        "notes": result.notes,
        "failed": result.failed,
    }
