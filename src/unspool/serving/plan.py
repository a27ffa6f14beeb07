"""The files of a rerun: what may be served, and under which rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from unspool.recording.lines import decode_json, encode_json
from unspool.serving.spending import Price

__all__ = [
    "CLAIMS_NAME",
    "JOURNAL_NAME",
    "OFFERS_NAME",
    "PLAN_NAME",
    "Offer",
    "Plan",
    "Source",
    "Target",
    "decode_struct",
    "encode_struct",
    "read_offers",
    "read_plan",
    "write_plan",
]

T = TypeVar("T")

PLAN_NAME: Final = "plan.json"
OFFERS_NAME: Final = "offers.jsonl"
JOURNAL_NAME: Final = "journal.jsonl"
CLAIMS_NAME: Final = "claims"


class Source(msgspec.Struct, omit_defaults=True):
    """One recording of the run tree that is served.

    Attributes:
        record_id: its name.
        path: its folder, absolute.
        parent: the record id of the process that started it; None for the root.
        role, intent, command: as in its metadata; a process of the rerun finds its recording by them.
    """

    record_id: str
    path: str
    parent: str | None = None
    role: str = "agent"
    intent: str = ""
    command: list[str] = msgspec.field(default_factory=list)


class Target(msgspec.Struct, omit_defaults=True):
    """Where a fork leaves the recording: the model call whose request is sent with the edits.

    Attributes:
        record_id: the recording the call is in.
        offer: the number of the offer that is this call.
        seq_num: its snapshot.
        call: its number within the recording.
    """

    record_id: str
    offer: int
    seq_num: int
    call: int


class Plan(msgspec.Struct, omit_defaults=True):
    """The rules of a rerun; the supervisor writes them once.

    Attributes:
        root: record id of the recording that is run again.
        sources: the recordings of its run tree, the root first.
        target: None for a plain rerun.
        on_divergence: `fail` stops the program at the first request the recording does not hold; `live` sends it.
        realtime: streams are served at the pace they had.
        pin: clock, random and ids give the recorded values.
        live_tools: names of tools that run for real; `*` is all of them.
        deny: which of `fs-write`, `process`, `net` are refused for real.
        edits: what a fork changes, as `unspool.serving.edits` reads it; None for a plain rerun.
        inherited: what the forks changed that the recording was made by, the first fork first: its requests hold it,
            those of the program do not.
        max_calls: live model calls allowed; None is no limit.
        max_cost_usd: what live calls may cost together; None is no limit.
        prices: by which that is counted; without any the processes of the rerun keep no limit.
        tools: tool calls are answered from the recording; if not, they run as in an ordinary run.
        after_fork: what happens to tools behind the target that no `live_tools` allows: `run` or `refuse`.
        environ: variables that the program gets in place of those recorded.
        moved: where the model is asked, as the beginning of its URLs: now, and when it was recorded.
    """

    root: str
    sources: list[Source]
    target: Target | None = None
    on_divergence: str = "fail"
    realtime: bool = False
    pin: bool = True
    live_tools: list[str] = msgspec.field(default_factory=list)
    deny: list[str] = msgspec.field(default_factory=list)
    edits: dict[str, Any] | None = None
    inherited: list[dict[str, Any]] = []
    max_calls: int | None = None
    max_cost_usd: float | None = None
    prices: list[Price] = []
    tools: bool = True
    after_fork: str = "refuse"
    environ: dict[str, str] = {}
    moved: tuple[str, str] | None = None

    def recorded_url(self, url: str) -> str:
        """A URL of the program as it was when the model was asked elsewhere."""
        if self.moved is None or not _is_below(url, self.moved[0]):
            return url
        return self.moved[1] + url[len(self.moved[0]) :]

    def is_left_behind(self, url: str) -> bool:
        """Whether a URL is still where the model was asked when it was recorded, though it is asked elsewhere now."""
        return self.moved is not None and self.recorded_url(url) == url and _is_below(url, self.moved[1])

    def source(self, record_id: str) -> Source | None:
        """The source of that record id."""
        return next((one for one in self.sources if one.record_id == record_id), None)


def _is_below(url: str, start: str) -> bool:
    return url.startswith(start) and url[len(start) : len(start) + 1] in {"", "/", "?"}


class Offer(msgspec.Struct, omit_defaults=True):
    """One recorded exchange or tool call that can be served once.

    Attributes:
        number: its place in the order of start over the whole run tree, from 1.
        kind: `llm`, `http` or `tool`.
        record_id: the recording it is in.
        task: its place in the tree of tasks.
        syscall: seq_num of its syscall event; None for a model call that was in flight when the recording ended.
        snapshot, response: seq_nums of the other events of a model call.
        call: number of the model call within its recording.
        at: `file:line function` of the agent's code that made it.
        name: what to call it: the model of a model call, the tool's device path, the host and port of a request.
        key: what a request must be to be this one. Of an exchange: method, a blank, and the path with its query
            without credentials (with the host in front unless it is a model call). Of a tool call: its device path.
        sha256: of the request body, whole, as lower-case hex; None without a body. Of a tool call: of its arguments'
            canonical JSON.
        retry: it repeats the call before it.
        unservable: why it cannot be served, such as a body that is not recorded; None if it can.
        started, ended: when, in nanoseconds of the Unix epoch; `ended` is None if it did not.
        answered: when the first of its answer came.
        span: of a tool call, its span.
        inside: the number of the tool call it was made in; served with that, it is not asked for.
        unordered: other model calls of its place in the tree of tasks ran at the same time, so that their order there
            means nothing.
    """

    number: int
    kind: str
    record_id: str
    task: str = "0"
    syscall: int | None = None
    snapshot: int | None = None
    response: int | None = None
    call: int | None = None
    at: str | None = None
    name: str = ""
    key: str = ""
    sha256: str | None = None
    retry: bool = False
    unservable: str | None = None
    started: int = 0
    ended: int | None = None
    answered: int | None = None
    span: str | None = None
    inside: int | None = None
    unordered: bool = False


def write_plan(folder: Path, plan: Plan, offers: list[Offer]) -> None:
    """Write a rerun folder; it must exist and hold no plan yet.

    Raises:
        OSError: it cannot be written.
    """
    (folder / CLAIMS_NAME).mkdir()
    (folder / OFFERS_NAME).write_bytes(b"".join(encode_struct(offer) + b"\n" for offer in offers))
    (folder / JOURNAL_NAME).touch(mode=0o600)
    # Not by msgspec, whose `format` refuses halves of surrogate pairs even as escapes.
    (folder / PLAN_NAME).write_text(json.dumps(msgspec.to_builtins(plan), indent=2) + "\n")


def read_plan(folder: Path) -> Plan:
    """The plan of a rerun folder.

    Raises:
        OSError: it cannot be read.
        msgspec.DecodeError: it is no plan.
    """
    return decode_struct((folder / PLAN_NAME).read_bytes(), Plan)


def read_offers(folder: Path) -> list[Offer]:
    """The offers of a rerun folder, in order of their numbers.

    Raises:
        OSError: they cannot be read.
        msgspec.DecodeError: a line is no offer.
    """
    data = (folder / OFFERS_NAME).read_bytes()
    try:
        return msgspec.json.Decoder(Offer).decode_lines(data)
    except msgspec.DecodeError:
        return [decode_struct(line, Offer) for line in data.splitlines()]


# Names and intents come from a recording, which may hold halves of surrogate pairs. msgspec refuses these, both ways.


def encode_struct(value: msgspec.Struct) -> bytes:
    """JSON of a struct on one line, halves of surrogate pairs as escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return encode_json(msgspec.to_builtins(value))


def decode_struct(data: bytes, kind: type[T]) -> T:
    """The struct of a JSON text.

    Raises:
        msgspec.DecodeError: it is none of this kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        try:
            return msgspec.convert(decode_json(data), kind)
        except ValueError as exc:
            raise msgspec.DecodeError(str(exc)) from exc
