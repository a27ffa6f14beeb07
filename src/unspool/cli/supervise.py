"""Running a recorded program again, served from its recording: what `rerun`, `fork`, `bisect` and `doctor` share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from unspool.cli.launch import Launch
from unspool.cli.limit_options import budget_of
from unspool.cli.removal import remove_recordings
from unspool.cli.rerunfolders import hold_lock, mark_kept
from unspool.cli.restart import restart
from unspool.cli.stopping import stop_processes
from unspool.cli.terminal import note
from unspool.errors import StoreError, UsageError
from unspool.events import RecordMetadata, RecordStatus
from unspool.recording.reader import RecordReader
from unspool.replay.rerun import Outcome, judge, prepare, remove_folder
from unspool.serving.edits import KeptEdits, write_kept
from unspool.serving.plan import JOURNAL_NAME, Offer, Plan
from unspool.store import Store

__all__ = ["supervise"]

_AUDIT: Final = ("process", "net")
_POLL_S: Final = 0.05
_LEAVE_S: Final = 1.0  # the process that diverged ends by itself; so does a parent that waits for it
_INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def supervise(
    store: Store,
    plan: Plan,
    offers: Sequence[Offer],
    *,
    argv: Sequence[str] | None = None,
    name: str | None = None,
    forked_at: int | None = None,
    keep: bool = False,
    stdout: int | None = None,
    stderr: int | None = None,
    bisect: tuple[str, int] | None = None,
) -> Outcome:
    """Run the program of a recording again under a plan, wait for it, and judge what came of it.

    Its standard streams are this process', signals to this process go to it. What it records goes into the store:
    removed again if it was a rerun that proved identical, unless `keep`. At a divergence that is not to be survived
    every process of the program is ended.

    Args:
        store: where the recording is, and where the new one goes.
        plan: the rules; `plan.root` names the recording.
        offers: what may be served.
        argv: a command to start in place of the recorded one.
        name: the intent of the new recording; the recorded one's by default.
        forked_at: for a fork: the event it leaves the recording at; the new recording is then a fork, not a rerun.
        keep: leave the recording and the rerun's folder, whatever came of it.
        stdout, stderr: as `Popen` takes them.
        bisect: for a fork that a bisection makes: the id of that, and the number of the fork in it.

    Raises:
        UsageError: the command, its working directory or its program is not there.
        StoreError: the rerun cannot be prepared, or the store went away meanwhile.
        click.exceptions.Exit: a signal interrupted it.
    """
    with RecordReader(Path(plan.sources[0].path), live=True) as reader:
        source = reader.metadata
    _check_served(plan, offers)
    how = restart(source, argv, pin=plan.pin)
    _check_capture(how.argv)
    how.environ |= plan.environ
    folder = prepare(store, plan, offers)
    lock = hold_lock(folder)
    lineage: dict[str, Any] = {"rerun": str(folder.absolute()), "budget": budget_of(source)}
    if forked_at is None:
        lineage["rerun_of"] = plan.root
    else:
        lineage |= {"parent": plan.root, "parent_pid": source.pid, "forked_at": forked_at, "bisect": bisect}
    try:
        launch = Launch(
            how.argv,
            store=store,
            name=source.intent if name is None else name,
            audit=_AUDIT,
            environ=how.environ,
            cwd=how.cwd,
            stdout=stdout,
            stderr=stderr,
            lineage=lineage,
        )
        if not launch.is_recorded:
            raise StoreError(f"{store.path} cannot be written: nothing was started, for it would not have been served")
        code = _run(launch, folder, stop_at_divergence=plan.on_divergence == "fail")
        _leave_if_interrupted(launch, store, keep=keep or forked_at is not None)
        records = _in_order(launch.records(), launch)
        outcome = judge(
            folder, plan, offers,
            records=records, records_dir=store.records, program_exit=code, surroundings=how.surroundings,
        )  # fmt: skip
        _keep_edits(store, plan, outcome)
        if outcome.status == "identical" and not keep:
            outcome.kept = not _remove(store, records)
        if keep:
            mark_kept(folder, outcome.rerun)
    finally:
        if not keep:
            remove_folder(folder)
        os.close(lock)
    outcome.folder = str(folder) if keep else None
    return outcome


def _keep_edits(store: Store, plan: Plan, outcome: Outcome) -> None:
    """Leave the edits beside the new recording, whose requests hold them: without them it could not be run again."""
    kept = [KeptEdits(edits) for edits in plan.inherited]
    if plan.edits is not None and plan.target is not None:
        kept.append(KeptEdits(plan.edits, plan.target.call if plan.target.record_id == plan.root else None))
    if outcome.rerun is not None and kept:
        try:
            write_kept(store.records / outcome.rerun, kept)
        except OSError as exc:
            note(f"unspool: the edits could not be kept, so {outcome.rerun} cannot be run again: {exc.strerror or exc}")


def _check_served(plan: Plan, offers: Sequence[Offer]) -> None:
    """Refuse what could only diverge at its first request: a recording without its bodies.

    What was in flight when it ended is no such gap: a fork sends it, and a rerun says so when it gets there.
    """
    target = plan.target.offer if plan.target is not None else None
    wanted = [one for one in offers if one.kind != "tool" and one.inside is None and one.number != target]
    gaps = [one.unservable for one in wanted if one.unservable is not None and one.syscall is not None]
    if gaps and all(one.unservable is not None for one in wanted):
        raise StoreError(
            f"{plan.root} cannot be run again: it holds the answer to none of its {len(wanted)} requests "
            f"({gaps[0]}). Nothing was started. Record it anew: unspool run -- ..."
        )


def _check_capture(argv: Sequence[str]) -> None:
    from unspool.capture.environment import will_be_captured

    if will_be_captured(list(argv)) is False:
        raise UsageError(
            f"{argv[0]} would be started with -I, -E or -S, which keeps unspool out of it: it would run for real. "
            f"Leave that away."
        )


def _run(launch: Launch, folder: Path, *, stop_at_divergence: bool) -> int:
    """Start the program and wait for it; its exit code. A divergence in any of its processes ends all of them."""
    ended = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(launch, folder / JOURNAL_NAME, ended), name="unspool-watch", daemon=True
    )
    if stop_at_divergence:
        watch.start()
    try:
        return launch.run()
    finally:
        ended.set()
        if stop_at_divergence:
            watch.join()
            if _has_diverged(folder / JOURNAL_NAME):
                stop_processes(None, launch.records())


def _watch(launch: Launch, journal: Path, ended: threading.Event) -> None:
    size = -1
    while not ended.wait(_POLL_S):
        try:
            now = journal.stat().st_size
        except OSError:  # the store was removed: judging says so
            continue
        if now == size:
            continue
        size = now
        if _has_diverged(journal):
            if not ended.wait(_LEAVE_S) and launch.process is not None:
                stop_processes(launch.process.pid, launch.records())
            return


def _has_diverged(journal: Path) -> bool:
    try:
        return b'"kind":"divergence"' in journal.read_bytes()
    except OSError:
        return False


def _in_order(records: list[RecordMetadata], launch: Launch) -> list[RecordMetadata]:
    """The first process first: the one that was started, else the first that knows of no parent in the rerun."""
    os_pid = launch.process.pid if launch.process is not None else None
    ids = {one.record_id for one in records}
    return sorted(records, key=lambda one: (one.os_pid != os_pid, one.parent in ids, one.pid))


def _leave_if_interrupted(launch: Launch, store: Store, *, keep: bool) -> None:
    number = next((one for one in launch.signals if one in _INTERRUPTS), None)
    if number is None:
        return
    records = launch.records()
    if keep and records:
        note(f"unspool: interrupted; as far as it got it is {records[0].record_id}")
    else:
        _remove(store, records)
        note("unspool: interrupted; nothing is proved")
    raise click.exceptions.Exit(128 + number)


def _remove(store: Store, records: Sequence[RecordMetadata]) -> bool:
    """Remove what a rerun recorded; whether that was possible."""
    if not store.records.is_dir():  # it was removed while the program ran
        return True
    if any(one.status is RecordStatus.RECORDING for one in records):
        note("unspool: a process of the program is still running, so the recording of the rerun stays")
        return False
    try:
        remove_recordings(store, records)
    except StoreError as exc:
        note(f"unspool: {exc}")
        return False
    return True
