"""One test: its model traffic recorded, or served from its cassette, and what is wrong with it in the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from unspool import providers
from unspool.capture import rerun
from unspool.capture.flow import FLOW, Flow, leave
from unspool.capture.process import AgentProcess, Lineage
from unspool.capture.runtime import runtime
from unspool.pytest_plugin.cassette import Cassette, CassetteExchange, read_cassette, write_cassette
from unspool.pytest_plugin.convert import made_plan, to_cassette, to_recordings
from unspool.pytest_plugin.report import divergence_text, unused_text
from unspool.recording.reader import RecordReader
from unspool.serving.offers import open_tree
from unspool.serving.plan import Offer, Plan, write_plan
from unspool.serving.stage import Stage
from unspool.store import Store, new_hex_id

if TYPE_CHECKING:
    from contextvars import Token

__all__ = ["Mode", "Running", "Unused"]

Mode = Literal["record", "replay", "live"]
Unused = Literal["fail", "ignore"]

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "testserver", "test")
# SDKs refuse to start without a key; what serves them asks for none.
_KEYS: Final = (
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "AZURE_OPENAI_API_KEY",
    "MISTRAL_API_KEY", "GROQ_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY", "TOGETHER_API_KEY", "XAI_API_KEY",
)  # fmt: skip
_PLACEHOLDER: Final = "unspool-replay"


class Running:
    """The traffic of one test, from `start` to `finish`.

    Args:
        test: the test's id.
        path: its cassette.
        unused: what recorded exchanges that the test does not make are.
        ignored_hosts: whose requests are neither recorded nor served, besides those to this machine that are no model
            calls.
        raised: makes of a reason what a request that the cassette does not hold raises.
    """

    def __init__(
        self,
        test: str,
        path: Path,
        mode: Mode,
        *,
        unused: Unused,
        ignored_hosts: tuple[str, ...],
        raised: Callable[[str], BaseException],
    ) -> None:
        self.test = test
        self.path = path
        self.mode = mode
        self.unused = unused
        self._ignored = (*_LOOPBACK, *ignored_hosts)
        self._raised = raised
        self._folder = Path(tempfile.mkdtemp(prefix="unspool-test-"))
        self._store = Store(self._folder / "store").ensure()
        self._process: AgentProcess | None = None
        self._put_back: Callable[[], None] = _nothing
        self._token: Token[Flow | None] | None = None
        self._placeholders: list[str] = []
        self._end_of_test: int | None = None
        self._served: _Served | None = None

    # --- the life of a test ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to record, or to serve.

        Raises:
            BadCassette: the cassette cannot be read.
        """
        lineage = Lineage(store=str(self._store.path), trace_id=new_hex_id(), audit=["process"])
        if self.mode == "replay":
            self._served = _Served(read_cassette(self.path), self._folder)
            lineage.rerun = str(self._served.stage.folder)
            for name in _KEYS:
                if name not in os.environ:
                    os.environ[name] = _PLACEHOLDER
                    self._placeholders.append(name)
        process = self._process = AgentProcess(lineage, intent=self.test, role="agent")
        # Under `unspool run` the test's traffic is its own affair.
        self._put_back = runtime.set_aside()
        rerun.leave_out(self._is_left_out)
        if self._served is not None:
            rerun.enter_stage(self._served.stage, self._raised)  # before the seams, which differ for a rerun
        runtime.arm(process, chance=False)
        process.ensure()

    def enter(self) -> None:
        """The code that runs from here on, in this context, belongs to the test."""
        self._token = FLOW.set(runtime.root_flow)

    def leave(self) -> None:
        """Undo `enter`."""
        if self._token is not None:
            leave(FLOW, self._token)
            self._token = None

    def end_of_test(self) -> None:
        """The test is over, its fixtures are not."""
        recorder = self._process.recorder if self._process is not None else None
        self._end_of_test = recorder.event_count if recorder is not None else None

    def finish(self) -> None:
        """Take everything out again. What was recorded stays until `close`."""
        rerun.leave_stage()
        rerun.leave_out(None)
        for name in self._placeholders:
            if os.environ.get(name) == _PLACEHOLDER:
                del os.environ[name]
        process = self._process
        if process is not None:
            process.end()
            runtime.drop(process)
        self._put_back()
        self._put_back = _nothing

    def close(self) -> None:
        """Remove what is left on disk besides the cassette."""
        if self._served is not None:
            self._served.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_left_out(self, method: str, url: str) -> bool:
        if providers.match(method, url) is not None:
            return False
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return False
        return any(host == one or host.endswith("." + one) for one in self._ignored)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def problem(self, *, passed: bool) -> str | None:
        """What is wrong with the test's requests, for its report; None if nothing is.

        Args:
            passed: the test itself did: one that broke off early has not made all its requests.
        """
        served = self._served
        if served is None:
            return None
        text = divergence_text(served.stage.folder, served.plan, served.offers, served.by_id, self.path.name)
        if text is None and passed and self.unused == "fail":
            text = unused_text(served.left(), self.path.name)
        return text

    def write(self) -> int:
        """Write the cassette of what was recorded; gives how many exchanges had no end and are not in it.

        A test without traffic has no cassette.

        Raises:
            OSError: it cannot be written.
        """
        assert self._process is not None
        recorder = self._process.recorder
        if recorder is None:
            return 0
        readers = open_tree(self._store, recorder.record_id)
        try:
            cassette, lost = to_cassette(readers, self.test, last_seq=self._end_of_test)
        finally:
            for reader in readers:
                reader.close()
        if cassette.exchanges:
            write_cassette(self.path, cassette)
        else:
            self.path.unlink(missing_ok=True)
        return lost

    @property
    def record_dir(self) -> Path | None:
        """The recording of this run of the test."""
        recorder = self._process.recorder if self._process is not None else None
        return recorder.record_dir if recorder is not None else None


def _nothing() -> None:
    """What there is to put back before anything was taken."""


class _Served:
    """A cassette laid out to be served."""

    def __init__(self, cassette: Cassette, folder: Path) -> None:
        store = Store(folder / "cassette").ensure()
        self._stack = contextlib.ExitStack()
        readers = [self._stack.enter_context(RecordReader(one, live=True)) for one in to_recordings(cassette, store)]
        self.by_id = {reader.record_id: reader for reader in readers}
        self.plan: Plan
        self.offers: list[Offer]
        self.plan, self.offers, self._exchanges = made_plan(cassette, readers)
        rerun = folder / "rerun"
        rerun.mkdir()
        write_plan(rerun, self.plan, self.offers)
        self.stage = Stage(rerun)

    def left(self) -> list[CassetteExchange]:
        """The exchanges that the test should have made and did not."""
        pairs = zip(self.offers, self._exchanges, strict=True)
        return [one for offer, one in pairs if not one.after_test and not self.stage.is_taken(offer.number)]

    def close(self) -> None:
        """Close the recordings and the journal."""
        self._stack.close()
        self.stage.journal.close()
