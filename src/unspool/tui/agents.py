"""The agents `top` shows: found in the store, each read as far as it has got, in the order of a tree."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from unspool.cli import amounts
from unspool.cli.activity import Activity, ActivityWatch
from unspool.cli.limit_options import budget_of
from unspool.context import GrowthPrediction, GrowthSnapshot, predict_growth
from unspool.errors import CorruptRecording, StoreError
from unspool.events import RecordEvent, RecordMetadata, RecordStatus
from unspool.recording.address import is_root, newest_first
from unspool.store import Store
from unspool.tui.windows import window_of_path

__all__ = ["Agent", "Agents", "Row"]

RECENT: Final = 20
"""Recordings that are shown beside the running ones."""
_RATE_S: Final = 60  # tokens and cost a minute are those of this long
_POINTS_MAX: Final = 200  # counts the forecast is made from


@dataclass
class Agent:
    """One agent process as it is now.

    Attributes:
        paused: its OS process is stopped by a signal.
        tokens_minute, cost_minute: of the last minute, or of its life so far if that is shorter. None is unknown, and
            what one that has ended has.
        growth: how full its fullest conversation is, by its last call; with an unknown window only the tokens.
    """

    metadata: RecordMetadata
    activity: Activity
    model: str
    paused: bool
    tokens_minute: float | None
    cost_minute: float | None
    growth: GrowthPrediction

    @property
    def is_running(self) -> bool:
        """Whether its recording is being written."""
        return self.metadata.status is RecordStatus.RECORDING

    @property
    def state(self) -> str:
        """`paused`, or what it says of itself; how it ended, unless it ended as it should."""
        if self.metadata.status not in (RecordStatus.RECORDING, RecordStatus.COMPLETED):
            return str(self.metadata.status)
        return "paused" if self.paused else self.activity.state


@dataclass
class Row:
    """An agent and where it stands in the tree: for each ancestor below the root whether more siblings follow."""

    agent: Agent
    above: tuple[bool, ...]
    is_last: bool


@dataclass
class _Conversation:
    """Model calls that go on from one another: the model they ask, and how large their contexts were."""

    model: str = ""
    path: str = ""
    points: list[GrowthSnapshot] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Tokens in it now."""
        return self.points[-1].tokens if self.points else 0


class AgentWatch(ActivityWatch):
    """Reads on where it stopped, and keeps what rates and the forecast are made from."""

    def __init__(self, store: Store, metadata: RecordMetadata) -> None:
        super().__init__(store, metadata)
        self._asked: dict[int | None, _Conversation] = {}
        self._lanes: dict[int | None, int | None] = {}  # of the calls that have no answer yet
        self._path = ""
        self._spent: list[tuple[int, int, float]] = []  # when, tokens and cost of each answer

    def see(self, event: RecordEvent) -> None:
        """Take one event into account."""
        before = self.totals.cost
        super().see(event)
        path = event.syscall.args.get("path") if event.syscall is not None else None
        if isinstance(path, str) and path.startswith("/dev/llm/"):
            self._path = path
        if event.context is not None:
            self._lanes[event.call] = event.lane
        if event.llm is None or event.llm.error is not None:
            return
        data = event.llm
        after = self.totals.cost
        cost = (after or 0.0) - (before or 0.0)
        self._spent.append((event.timestamp, (data.request_tokens or 0) + (data.response_tokens or 0), cost))
        if data.request_tokens is not None:
            talk = self._asked.setdefault(self._lanes.pop(event.call, None), _Conversation())
            talk.model, talk.path = data.model or talk.model, self._path
            step = event.step or len(talk.points) + 1
            used = data.request_tokens + (data.response_tokens or 0)
            talk.points = [*talk.points[-_POINTS_MAX:], GrowthSnapshot(step, used, event.timestamp // 1_000_000)]

    def agent(self) -> Agent:
        """How it is now.

        Raises:
            CorruptRecording: it cannot be read any more.
        """
        metadata = self.reader.metadata
        age = amounts.seconds_since(metadata.start_time)
        activity = self.look(age)
        metadata = self.reader.metadata
        is_running = metadata.status is RecordStatus.RECORDING
        tokens, cost = self._rates(int(age * 1e9), activity) if is_running and age is not None else (None, None)
        # Small calls aside, such as for a title, have conversations of their own: the fullest is what may overflow.
        talk = max(self._asked.values(), key=lambda one: one.used, default=_Conversation())
        window = budget_of(metadata) or (window_of_path(talk.path) if talk.path else 0)
        step = talk.points[-1].step if talk.points else 0
        growth = predict_growth(metadata.pid, talk.used, window, step, 0, talk.points)
        paused = is_running and metadata.os_pid is not None and _is_stopped(metadata.os_pid)
        return Agent(metadata, activity, talk.model, paused, tokens, cost, growth)

    def _rates(self, now_ns: int, activity: Activity) -> tuple[float | None, float | None]:
        """Tokens and US dollars a minute."""
        if not self._spent:
            return 0.0, 0.0
        window_ns = _RATE_S * 1_000_000_000
        minutes = max(min(now_ns, window_ns), 1_000_000_000) / 60e9
        first = bisect_left(self._spent, max(now_ns - window_ns, 0), key=lambda item: item[0])
        tokens = None if activity.totals.tokens is None else sum(item[1] for item in self._spent[first:]) / minutes
        cost = None if activity.totals.cost is None else sum(item[2] for item in self._spent[first:]) / minutes
        return tokens, cost


class Agents:
    """All agents of a store that are looked at, one reader each.

    Args:
        everything: all recordings, not only the newest ones and those that run.
    """

    def __init__(self, store: Store, *, everything: bool = False) -> None:
        self._store = store
        self._watches: dict[str, AgentWatch] = {}
        self._ended: dict[str, Agent] = {}  # these do not change any more
        self.everything = everything
        self.running_only = False

    def close(self) -> None:
        """Close the files."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()

    def look(self) -> list[Row]:
        """How they are now, as a tree.

        Raises:
            StoreError: the store cannot be read.
        """
        agents = [agent for metadata in self._wanted() if (agent := self._agent(metadata)) is not None]
        gone = self._watches.keys() - {agent.metadata.record_id for agent in agents}
        for record_id in gone:
            self._watches.pop(record_id).close()
        return list(_tree(agents))

    def _wanted(self) -> Iterator[RecordMetadata]:
        try:
            records = newest_first(self._store)
            newest = list(records if self.everything else islice(records, RECENT))
            # One that has been running for long may have many newer ones above it.
            found = {one.record_id for one in newest}
            newest += [one for one in records if one.status is RecordStatus.RECORDING and one.record_id not in found]
        except StoreError:
            raise
        except OSError as exc:
            raise StoreError(f"cannot list the recordings in {self._store.records}: {exc.strerror or exc}") from exc
        return (one for one in newest if not self.running_only or one.status is RecordStatus.RECORDING)

    def _agent(self, metadata: RecordMetadata) -> Agent | None:
        name = metadata.record_id
        known = self._ended.get(name)
        if known is not None:
            return known
        try:
            watch = self._watches.get(name)
            if watch is None:
                watch = self._watches[name] = AgentWatch(self._store, metadata)
            agent = watch.agent()
        except (CorruptRecording, OSError):  # removed meanwhile, or damaged: `unspool ls` says so
            return None
        if not agent.is_running:
            self._ended[name] = agent
            self._watches.pop(name).close()
        return agent


def _tree(agents: list[Agent]) -> Iterator[Row]:
    """In order of PID, newest roots first, children under parents."""
    nodes = {agent.metadata.record_id: agent for agent in sorted(agents, key=lambda one: one.metadata.pid)}
    children: dict[str, list[Agent]] = {}
    roots: list[Agent] = []
    for agent in nodes.values():
        parent = None if is_root(agent.metadata) else nodes.get(agent.metadata.parent or "")
        # A parent has the lower number; a damaged file may say otherwise and must not close a circle.
        if parent is None or parent.metadata.pid >= agent.metadata.pid:
            roots.append(agent)
        else:
            children.setdefault(parent.metadata.record_id, []).append(agent)
    roots.sort(key=lambda one: (one.is_running, one.metadata.pid))
    stack: list[tuple[tuple[bool, ...], bool, Agent]] = [((), True, root) for root in roots]
    while stack:
        above, is_last, agent = stack.pop()
        yield Row(agent, above, is_last)
        below = children.get(agent.metadata.record_id, [])
        lead = (*above, not is_last)
        stack.extend((lead, index == len(below) - 1, child) for index, child in reversed(list(enumerate(below))))


def _is_stopped(os_pid: int) -> bool:
    """Whether a signal stopped an OS process; false where the system does not tell."""
    try:
        return Path(f"/proc/{os_pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False
