"""A tool call in a rerun: which recorded call answers it, and what happens when none can.

What the recording holds is given without running the tool. A tool that may run for real runs, and the journal says
why; for any other call that the recording does not hold the program stops.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unspool.capture import rerun, serve, stopping
from unspool.capture.flow import quiet
from unspool.errors import UnspoolError
from unspool.events import SyscallEventData
from unspool.recording.reader import RecordReader
from unspool.serving.journal import Entry
from unspool.serving.plan import Offer
from unspool.serving.rebuild import CannotRebuild, rebuild_error
from unspool.serving.stage import Stage
from unspool.serving.tools import Place, ToolShelf, arguments_digest, differing_arguments, is_allowed_live

if TYPE_CHECKING:
    from unspool.capture.toolrun import Restore, ToolRun

__all__ = ["Answer", "ask", "claim"]

_ARGUMENTS_MAX = 2000  # characters of a recorded argument in the journal


class Answer:
    """What a recorded call gave: a value, or an error it raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error

    def give(self, run: ToolRun, judge: Callable[[Any], str] = lambda result: "") -> Any:
        """Record the run as it was recorded before, and return or raise; `judge` as in `perform_async`.

        Raises:
            BaseException: the recorded error.
        """
        if self.error is not None:
            run.failed(self.error)
            raise self.error
        run.returned(self.value, judge(self.value))
        return self.value


def ask(run: ToolRun, restore: Restore) -> Answer | None:
    """The recorded answer to this call, None if the tool is to run. Outside of a rerun it is None.

    Does not return when the program is to be stopped.
    """
    stage = rerun.stage()
    if stage is None:
        return None
    with quiet():
        return _Asking(stage, run).answer(restore)


def claim(run: ToolRun) -> Answer | None:
    """The recorded answer to a call that is no divergence when the recording lacks it, and that never runs for real."""
    stage = rerun.stage()
    if stage is None:
        return None
    with quiet():
        return _Asking(stage, run).claim()


class _Asking:
    """One call that asks for its answer."""

    def __init__(self, stage: Stage, run: ToolRun) -> None:
        self.stage = stage
        self.run = run
        source = rerun.source_of(run.process)
        self.record_id = source.record_id if source is not None else None
        outer = run.outer
        self.place = Place(self.record_id, outer.path, outer.in_tool)
        self.sha256 = arguments_digest(run.asked)

    def answer(self, restore: Restore) -> Answer | None:
        plan, run = self.stage.plan, self.run
        # In a fork, what may run for real is what comes after the point: before it nothing is done twice.
        allowed = is_allowed_live(run.path, plan.live_tools) and (plan.target is None or self.stage.reached)
        offer = self._claim()
        if allowed:
            self._live(offer, "it may run for real (--live-tools)", for_real=True)
            return None
        if offer is None:
            self._unrecorded()
            return None
        if self._is_around_target(offer):
            self._live(offer, "the point of the fork is inside of it")
            return None
        try:
            answer = self._restored(offer, restore)
        except CannotRebuild as exc:
            if self._is_behind_target() and plan.after_fork != "run":
                self._refuse(offer)
            self._live(offer, str(exc))
            return None
        run.origin = "served"
        self._note(Entry(kind="tool", match="served", offer=offer.number))
        return answer

    def claim(self) -> Answer | None:
        offer = self._claim()
        if offer is None:
            return None
        self.run.origin = "served"
        self._note(Entry(kind="tool", match="served", offer=offer.number))
        try:
            return self._restored(offer, lambda call: call.result)
        except CannotRebuild:
            return None

    def _claim(self) -> Offer | None:
        shelf, run = _shelf(self.stage), self.run
        for offer in shelf.candidates(self.place, run.key, self.sha256):
            if self.stage.take(offer):
                return offer
        return None

    def _is_behind_target(self) -> bool:
        return self.stage.plan.target is not None and self.stage.reached

    def _is_around_target(self, offer: Offer) -> bool:
        """Whether the call a fork is made at was made inside this one, whose result then came after the point."""
        target = self.stage.plan.target
        inner = self.stage.by_number.get(target.offer) if target is not None else None
        while inner is not None and inner.inside is not None:
            if inner.inside == offer.number:
                return True
            inner = self.stage.by_number.get(inner.inside)
        return False

    # --- no recorded answer ------------------------------------------------------------------------------------------

    def _unrecorded(self) -> None:
        """The recording does not hold this call: it runs for real, or the program stops."""
        plan = self.stage.plan
        if self._is_behind_target():
            if plan.after_fork != "run":
                self._refuse(None)
            self._live(None, "it comes after the fork", for_real=True)
            return
        if serve.FOR_REAL.get():
            self._live(None, "called by a tool that runs for real", for_real=True)
            return
        expected = self._expected()
        reason = "the recording holds no call of this tool" if expected is None else "called with other arguments"
        if expected is not None and expected.sha256 == self.sha256:
            reason = "called more often than in the recording"
        entry = Entry(
            kind="divergence",
            path=self.run.path,
            offer=expected.number if expected is not None else None,
            reason=reason,
            detail=self._difference(expected),
        )
        self._fill(entry)
        if plan.on_divergence != "live":
            stopping.stop(entry)
        self.stage.journal.write(entry)
        self._live(None, "the recording does not hold it (--on-divergence live)")

    def _expected(self) -> Offer | None:
        """The recorded call that this one stands in the place of: the nearest that nobody has taken yet."""
        alike = _shelf(self.stage).alike(self.place, self.run.key)
        return next((offer for offer in alike if not self.stage.is_taken(offer.number)), alike[-1] if alike else None)

    def _difference(self, expected: Offer | None) -> dict[str, object]:
        asked = _short(self.run.asked)
        if expected is None:
            return {"asked": asked}
        try:
            recorded = _recorded_call(self.stage, expected).args.get("input")
        except (CannotRebuild, UnspoolError, OSError) as exc:
            return {"asked": asked, "unreadable": str(exc)}
        differs = differing_arguments(recorded, self.run.asked)
        return {"asked": asked, "recorded": _short(recorded), "differs": _short(differs)}

    def _refuse(self, offer: Offer | None) -> None:
        name = self.run.path.rpartition("/")[2]
        reason = f"tool {name} would run for real after the fork; allow it with --live-tools {name}"
        number = offer.number if offer is not None else None
        entry = Entry(kind="divergence", path=self.run.path, offer=number, reason=reason, detail={"refused": True})
        entry.detail["asked"] = _short(self.run.asked)
        self._fill(entry)
        stopping.stop(entry)

    def _restored(self, offer: Offer, restore: Restore) -> Answer:
        if offer.unservable is not None:
            raise CannotRebuild(offer.unservable)
        try:
            call = _recorded_call(self.stage, offer)
        except (UnspoolError, OSError) as exc:
            raise CannotRebuild(f"its recorded result cannot be read: {exc}") from exc
        if call.error is None:
            return Answer(restore(call), None)
        form = self.run.error_form
        make = form.make if form is not None and call.error.type in form.types else None
        error = rebuild_error(call.error, make)
        return Answer(restore(call) if call.result is not None else None, error)

    # --- the journal -------------------------------------------------------------------------------------------------

    def _live(self, offer: Offer | None, reason: str, *, for_real: bool = False) -> None:
        self.run.origin = "live"
        self.run.for_real = for_real
        if offer is not None:
            self.stage.claim(f"ran-{offer.number}")  # what was recorded inside of it will be asked for
        number = offer.number if offer is not None else None
        self._note(Entry(kind="tool", match="live", offer=number, reason=reason))

    def _note(self, entry: Entry) -> None:
        known = self.stage.by_number.get(entry.offer) if entry.offer is not None else None
        # The server of an MCP session has a name only after its first answer.
        entry.path = known.name if known is not None else self.run.path
        self._fill(entry)
        self.stage.journal.write(entry)

    def _fill(self, entry: Entry) -> None:
        entry.os_pid = os.getpid()
        entry.record_id = self.record_id
        entry.task = self.run.outer.path
        entry.at = self.run.at


# --- what was recorded -----------------------------------------------------------------------------------------------


_lock = threading.Lock()
_readers: dict[str, RecordReader] = {}
_shelf_of: tuple[Stage, ToolShelf] | None = None


def _after_fork() -> None:
    """In a forked child: the lock may be held by a thread that does not exist here."""
    global _lock
    _lock = threading.Lock()
    _readers.clear()


os.register_at_fork(after_in_child=_after_fork)


def _recorded_call(stage: Stage, offer: Offer) -> SyscallEventData:
    """The recorded event of an offer.

    Raises:
        CannotRebuild: the plan or the recording does not have it.
        UnspoolError, OSError: it cannot be read.
    """
    source = stage.plan.source(offer.record_id)
    if source is None or offer.syscall is None:
        raise CannotRebuild("its recording is not part of this rerun")
    with _lock:
        reader = _readers.get(source.path)
        if reader is None:
            reader = _readers[source.path] = RecordReader(source.path, live=True)
        call = reader.event(offer.syscall).syscall
    if call is None:
        raise CannotRebuild(f"event {offer.syscall} of {offer.record_id} is no call")
    return call


def _shelf(stage: Stage) -> ToolShelf:
    global _shelf_of
    found = _shelf_of
    if found is None or found[0] is not stage:
        found = _shelf_of = (stage, ToolShelf(stage.offers))
    return found[1]


def _short(value: Any) -> Any:
    """Arguments as JSON holds them, long texts cut."""
    from unspool.recording.lines import to_wire

    def cut(one: Any) -> Any:
        if isinstance(one, str):
            return one if len(one) <= _ARGUMENTS_MAX else one[:_ARGUMENTS_MAX] + "…"
        if isinstance(one, dict):
            return {name: cut(item) for name, item in one.items()}
        return [cut(item) for item in one] if isinstance(one, list) else one

    return cut(to_wire(value))
