"""Many callers at once, in tasks, threads and processes: each call is recorded with its own answer and place."""

from __future__ import annotations

from pathlib import Path

import pytest
from capture_harness import Recording, Result, assert_whole, recordings, run_agent

from unspool.demo.server import ModelServer

pytest.importorskip("openai")
pytest.importorskip("anyio")


def record(tmp_path: Path, *scenarios: str, run: str = "a") -> tuple[Result, list[Recording]]:
    """Run scenarios recorded; what they printed must be what they print without unspool."""
    store = tmp_path / run
    with ModelServer() as server:
        result = run_agent("concurrent_calls", *scenarios, store=store, MODEL_URL=server.url, timeout=100)
    assert result.stderr == b""
    assert result.code == 0
    assert [name for name, value in result.facts().items() if isinstance(value, dict)] == []
    found = recordings(store)
    for recording in found:
        assert recording.metadata.lost_events == 0
        assert_whole(recording.calls)
        for call in recording.calls:
            assert call.answer.llm is not None
            assert (call.answer.llm.text or "").startswith(f"echo: {call.user_text} [")
    return result, found


def places(recording: Recording) -> dict[str, str | None]:
    return {call.user_text: call.snapshot.task for call in recording.calls}


def test_200_gathered_calls(tmp_path: Path) -> None:
    result, [recording] = record(tmp_path, "gather")
    assert result.facts() == {"gather": 200}
    found = places(recording)
    assert set(found) == {f"gather {n}" for n in range(200)}
    assert len(set(found.values())) == 200
    # Numbered by their creator, in order of creation.
    assert [found[f"gather {n}"] for n in range(200)] == sorted(
        found.values(), key=lambda path: int(path.split(".")[-1])
    )  # type: ignore[union-attr]
    assert len({call.snapshot.lane for call in recording.calls}) == 200


def test_threads_pools_and_groups(tmp_path: Path) -> None:
    names = ["threads", "pool", "asyncio_threads", "groups"]
    result, [recording] = record(tmp_path, *names)
    assert result.facts() == {"threads": 64, "pool": 24, "asyncio_threads": 16, "groups": 8}
    found = places(recording)
    wanted = {"thread": 64, "pool": 24, "to_thread": 8, "run_in_executor": 8, "taskgroup": 8, "anyio": 8}
    assert set(found) == {f"{kind} {n}" for kind, count in wanted.items() for n in range(count)}
    assert len(set(found.values())) == len(found)
    assert all(path is not None and path.startswith("0.") for path in found.values())


def test_places_are_the_same_in_every_run(tmp_path: Path) -> None:
    names = ["threads", "pool", "asyncio_threads", "groups"]
    _, [first] = record(tmp_path, *names, run="first")
    _, [second] = record(tmp_path, *names, run="second")
    assert places(first) == places(second)


def check_family(found: list[Recording]) -> Recording:
    """Every process belongs to the one trace, the one root and the parent that started it."""
    root, *others = found
    assert (root.metadata.role, root.metadata.parent, root.metadata.parent_pid) == ("agent", None, None)
    by_id = {recording.metadata.record_id: recording for recording in found}
    for other in others:
        assert other.metadata.role == "worker"
        assert other.metadata.trace_id == root.metadata.trace_id
        assert other.metadata.root == root.metadata.record_id
        assert other.metadata.parent in by_id
        assert other.metadata.parent_pid == by_id[other.metadata.parent or ""].metadata.pid
        assert other.metadata.parent_span_id is not None
        assert other.metadata.parent_span_id.startswith(by_id[other.metadata.parent or ""].metadata.span_base or "?")
        assert other.metadata.os_pid != root.metadata.os_pid
    assert len({recording.metadata.pid for recording in found}) == len(found)
    return root


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pools(tmp_path: Path, method: str) -> None:
    result, found = record(tmp_path, f"{method}_pool", f"{method}_process")
    assert result.facts() == {f"{method}_pool": 6, f"{method}_process": [0, 0]}
    root = check_family(found)
    assert root.calls == []
    assert {other.metadata.parent for other in found[1:]} == {root.metadata.record_id}
    made = sorted(call.user_text for other in found[1:] for call in other.calls)
    assert made == sorted([f"{method}_pool {n}" for n in range(6)] + [f"{method}_process {n}" for n in range(2)])
    assert {other.metadata.status for other in found} == {"completed"}


def test_fork(tmp_path: Path) -> None:
    result, found = record(tmp_path, "forked")
    assert result.facts() == {"forked": 0}
    check_family(found)
    assert [[call.user_text for call in one.calls] for one in found] == [["before fork", "beside fork"], ["forked"]]
    # It left by os._exit, which runs nothing: what it wrote is there all the same.
    assert [one.metadata.status for one in found] == ["completed", "interrupted"]


def test_subprocesses_three_deep(tmp_path: Path) -> None:
    _, found = record(tmp_path, "nested")
    root = check_family(found)
    assert [[call.user_text for call in one.calls] for one in found] == [[f"nested {n}"] for n in range(4)]
    parents = [one.metadata.parent for one in found]
    assert parents == [None, *(one.metadata.record_id for one in found[:-1])]
    [started] = root.syscalls("Exec")
    assert started.syscall is not None
    assert (started.syscall.args["captured"], started.syscall.result) == (True, "exit 0")
    assert started.syscall.args["os_pid"] == found[1].metadata.os_pid
