"""Handing a recorded answer to a client library: its pieces at their pace, its errors as the library's own."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NoReturn

from unspool.capture import rerun, serve
from unspool.events import ErrorData
from unspool.recording.lines import revive
from unspool.serving.rebuild import class_named
from unspool.serving.served import Answer

__all__ = ["Delivery", "MakeError", "pause", "rebuilt_cause"]

# Gives the exception of a class, message and arguments as the library makes it; None: made in the ordinary way.
MakeError = Callable[[type[BaseException], str, list[Any]], BaseException | None]

_CANCELLED: Final = ("CancelledError", "Cancelled", "GeneratorExit")


class Delivery:
    """An answer on its way to the program.

    Args:
        meeting: what was decided about the request, with an answer.
    """

    __slots__ = ("_is_paced", "_meeting", "answer")

    def __init__(self, meeting: serve.Meeting) -> None:
        assert meeting.answer is not None
        self._meeting = meeting
        self.answer: Answer = meeting.answer
        stage = rerun.stage()
        self._is_paced = stage is not None and stage.plan.realtime

    # --- before the response -----------------------------------------------------------------------------------------

    def failed(self, make: MakeError) -> BaseException | None:
        """Wait for its turn; gives the error that the request ends with instead of a response."""
        if self._meeting.turn is not None:
            self._meeting.turn.wait()
        if self.answer.status is not None or self.answer.error is None:
            return None
        self._wait_for_cancel(self.answer.error)
        return self._rebuilt(self.answer.error, make)

    async def async_failed(self, make: MakeError) -> BaseException | None:
        """The same; a request that the program cancelled waits to be cancelled again."""
        # Others run meanwhile, as while a request is under way.
        if self._meeting.turn is not None:
            await self._meeting.turn.async_wait()
        else:
            await pause(0)
        if self.answer.status is not None or self.answer.error is None:
            return None
        await self._async_wait_for_cancel(self.answer.error)
        return self._rebuilt(self.answer.error, make)

    def built(self, make: Callable[[], Any]) -> Any:
        """What `make` gives: the library's response. A fault in that is the end of the program, and no answer."""
        try:
            return make()
        except Exception as exc:  # noqa: BLE001 - whatever the recording says, and the library thinks of it
            self.stop(f"the recorded answer cannot be given to the program: {type(exc).__name__}: {exc}")

    # --- the body ----------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[bytes]:
        """The body as it came, at the pace it had if the rerun is in real time."""
        for piece, delay in zip(self.answer.pieces, self.answer.delays, strict=True):
            if self._is_paced and delay:
                time.sleep(delay)
            yield piece

    async def async_pieces(self) -> AsyncIterator[bytes]:
        """The same for asynchronous code."""
        for piece, delay in zip(self.answer.pieces, self.answer.delays, strict=True):
            if self._is_paced and delay:
                await pause(delay)
            yield piece

    def broken(self, make: MakeError) -> BaseException | None:
        """The error that the body breaks off with behind its last piece; does not come back if it was closed there."""
        if self.answer.closed:
            self.read_on()
        if self.answer.error is None:
            return None
        self._wait_for_cancel(self.answer.error)
        return self._rebuilt(self.answer.error, make)

    async def async_broken(self, make: MakeError) -> BaseException | None:
        """The same for asynchronous code."""
        if self.answer.closed:
            self.read_on()
        if self.answer.error is None:
            return None
        await self._async_wait_for_cancel(self.answer.error)
        return self._rebuilt(self.answer.error, make)

    def read_on(self) -> None:
        """The program reads behind the place where it had closed the body: what came there is not recorded."""
        self.stop("the program closed this response here when it was recorded, and now reads on")

    # --- errors ------------------------------------------------------------------------------------------------------

    def _rebuilt(self, error: ErrorData, make: MakeError) -> BaseException:
        kind = class_named(error.type)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            self.stop(f"the request failed with {error.type}, a class that is not loaded: {error.message}")
        args = [revive(arg, lambda _: None) for arg in error.args or ()]
        try:
            made = make(kind, error.message, args)
        except Exception as exc:  # noqa: BLE001 - a constructor with other arguments than we know
            self.stop(f"the request failed with {error.type}, which cannot be made again: {exc}")
        if made is None:
            made = made_anew(kind, error.message, args)
        if error.cause is not None and made.__cause__ is None:
            made.__cause__ = rebuilt_cause(error.cause)
        return made

    def _wait_for_cancel(self, error: ErrorData) -> None:
        if error.type.rpartition(".")[2] in _CANCELLED:
            self.stop(f"the program cut this request off when it was recorded ({error.type}), which cannot be served")

    async def _async_wait_for_cancel(self, error: ErrorData) -> None:
        """A request that the program cancelled ends when it is cancelled again, and in no other way."""
        if error.type.rpartition(".")[2] not in _CANCELLED:
            return
        await pause(_PATIENCE_S)
        self.stop(f"the program cancelled this request when it was recorded, and has not within {_PATIENCE_S} s")

    def stop(self, reason: str) -> NoReturn:
        """End the program: what was recorded cannot be given to it."""
        offer = self._meeting.offer
        key = offer.key if offer is not None else ""
        method, _, url = key.partition(" ")
        serve.diverge(method, url, b"", reason, expected=offer)


_PATIENCE_S: Final = 120.0


def made_anew(kind: type[BaseException], message: str, args: list[Any]) -> BaseException:
    """An exception of this class with this text, past a constructor of which nothing is known."""
    try:
        made = kind(*args)
        same = type(made) is kind and str(made) == message
    except Exception:  # noqa: BLE001 - it takes other arguments than it keeps
        same = False
    if not same:
        made = kind.__new__(kind, *args)
        made.args = tuple(args) or (message,)
    return made


def rebuilt_cause(error: ErrorData) -> BaseException | None:
    """What a recorded exception was raised from, made again; None where its class is not loaded."""
    kind = class_named(error.type)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return None
    made = made_anew(kind, error.message, [revive(arg, lambda _: None) for arg in error.args or ()])
    if error.cause is not None:
        made.__cause__ = rebuilt_cause(error.cause)
    return made


async def pause(seconds: float) -> None:
    """Sleep on the loop that runs: asyncio's, or trio's."""
    asyncio = sys.modules.get("asyncio")
    try:
        if asyncio is not None:
            asyncio.get_running_loop()
            await asyncio.sleep(seconds)
            return
    except RuntimeError:  # it runs no loop in this thread
        pass
    if (trio := sys.modules.get("trio")) is not None:
        await trio.sleep(seconds)
