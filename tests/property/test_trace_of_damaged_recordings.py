"""Whatever is wrong with a recording, what explains it comes out, and its sums hold."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import shutil
from pathlib import Path

import pytest

from unspool.cli.blame_json import blame_json
from unspool.cli.blame_text import Look, blame_text
from unspool.cli.prices import Prices
from unspool.cli.subjects import subject_of
from unspool.cli.timeline import timeline_text
from unspool.errors import CorruptRecording
from unspool.events import (
    ContextSnapshotData,
    CtxMessage,
    LLMResponseData,
    RecordEvent,
    RecordEventType,
    SyscallEventData,
    ToolCall,
)
from unspool.recording.recorder import Recorder
from unspool.store import Store
from unspool.text import dump_json
from unspool.trace.flame import fold_stacks, format_folded
from unspool.trace.flame_svg import flame_svg

MS = 1_000_000


def record(folder: Path) -> None:
    """An agent with five calls, a tool each, one of which fails."""
    recorder = Recorder(folder, 1, "plan")
    messages: list[CtxMessage | str] = [CtxMessage("system", "be brief"), CtxMessage("user", "go " * 200)]

    def write(kind: RecordEventType, at: int, span: int, **fields: object) -> None:
        event = RecordEvent(type=kind, seq_num=0, timestamp=at * MS, pid=1, span_id=f"{span:08x}")
        for name, value in fields.items():
            setattr(event, name, value)
        recorder.write_event(event)

    for call in range(1, 6):
        at = call * 20
        common = {"call": call, "step": call, "task": "0"}
        context = ContextSnapshotData(messages=list(messages), provider="openai_chat", model="gpt-5")
        write(RecordEventType.CONTEXT_SNAPSHOT, at, call * 2, context=context, lane=1, **common)
        asked = SyscallEventData("LLMCall", {"path": "/dev/llm/openai/gpt-5"}, "ok", duration=5 * MS)
        write(RecordEventType.SYSCALL, at, call * 2, syscall=asked, parent_span_id="00000001", **common)
        answer = LLMResponseData("gpt-5", 300 + call, 20, cached_tokens=100)
        write(RecordEventType.LLM_RESPONSE, at + 5, call * 2, llm=answer, **common)
        tool = SyscallEventData(
            "ToolCall", {"path": "/dev/tool/look", "input": {"n": 1}}, "r" * 2000, "" if call % 2 else "no", 8 * MS
        )
        write(RecordEventType.SYSCALL, at + 6, call * 2 + 1, syscall=tool, parent_span_id="00000001", **common)
        messages += [
            CtxMessage("assistant", "", tool_calls=[ToolCall("look", '{"n": 1}', id=f"c{call}")]),
            CtxMessage("tool", "r" * 2000, tool_call_id=f"c{call}"),
        ]
    recorder.close()


def damage(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    choice = rng.random()
    numbers = list(re.finditer(rb"(?<=[:\x20])\d+", data))
    if choice < 0.4 and numbers:  # other numbers, also where none can be
        match = rng.choice(numbers)
        value = rng.choice([b"0", b"-5", b"99999999999999999999", b"9007199254740993", b"null", b"true", b'"7"'])
        data = data[: match.start()] + value + data[match.end() :]
    elif choice < 0.7:  # lines lost, repeated, in another order
        lines = data.splitlines(keepends=True)
        lines = [line for line in lines if rng.random() > 0.2] + [line for line in lines if rng.random() > 0.9]
        data = b"".join(lines)
    elif choice < 0.9:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    else:
        data = data[: rng.randrange(len(data))]
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_survived(tmp_path, seed, caplog):
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(seed)
    store = Store(tmp_path / "store").ensure()
    record(store.records)
    (folder,) = store.records.iterdir()
    clean = tmp_path / "clean"
    shutil.copytree(folder, clean)
    for _ in range(4):
        shutil.rmtree(folder)
        shutil.copytree(clean, folder)
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(["events.jsonl", "events.jsonl", "messages.jsonl", "metadata.json"])
            if (folder / name).stat().st_size:
                damage(folder / name, rng)
        with contextlib.suppress(CorruptRecording):  # damaged beyond use, and says so
            with subject_of(store, folder.name, Prices()) as subject:
                report = subject.report()
                assert blame_text(subject, report, None, Look(width=80))
                for by in ("time", "tokens", "cost", "errors"):
                    assert blame_text(subject, report, by, Look("step"))
                assert timeline_text(subject.tree, report.result, width=80)
                assert timeline_text(subject.tree, report.result, only_critical=True)
                dump_json(blame_json(subject, report))
                for measure in ("time", "tokens", "cost", "carried"):
                    stacks = fold_stacks(subject.tree, measure, subject.carried)
                    format_folded(stacks)
                    flame_svg(stacks, measure)
                assert sum(part.duration for part in report.result.critical_segments) == report.result.critical_duration
                carried = subject.carried
                assert carried is not None
                sent = sum(entry.sent_tokens for entry in carried.entries) + carried.unread_tokens
                assert sent == pytest.approx(carried.input_tokens, rel=1e-6, abs=1e-3)
