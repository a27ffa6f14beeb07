"""What the package promises to others: its names, its errors, its weight."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import unspool
from unspool import errors

# What `import unspool` and the agent's side must never bring into an agent's process.
FOREIGN = ("click", "rich", "genai_prices", "pydantic", "httpx", "asyncio", "unspool.cli", "unspool.strace")


def _modules() -> list[str]:
    return [
        info.name
        for info in pkgutil.walk_packages(unspool.__path__, "unspool.")
        if "_boot" not in info.name and not info.name.endswith(("__main__", "demo.agent"))
    ]


@pytest.mark.parametrize("name", _modules())
def test_every_name_in_all_exists_and_is_listed_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for one in exported:
        assert hasattr(module, one), f"{name}.__all__ lists {one}, which does not exist"


def test_every_error_is_an_unspool_error_and_exported() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    assert found == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.UnspoolError) for name in found)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    for name in errors.__all__:
        assert name in errors.__doc__


@pytest.mark.parametrize(
    "statement",
    ["import unspool", "import unspool; unspool.tool, unspool.record, unspool.spawn, unspool.span, unspool.traced"],
)
def test_an_agent_gets_only_msgspec_and_the_standard_library(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {FOREIGN!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_of_the_seed_exist() -> None:
    names = {
        "unspool.events": "PID CtxID TraceID SpanID SyscallEvent new_event complete_event EventChannel emit_event "
        "RecordEvent RecordEventType SyscallEventData ContextSnapshotData LLMResponseData StateChangeData "
        "record_event_from_syscall TokenSnapshot",
        "unspool.strace": "Options default_options attach aattach format_event format_event_json truncate_string",
        "unspool.recording": "Recorder RecordManager RecordReader RecordMetadata RecordStatus",
        "unspool.replay": "ReplaySession ReplayListItem SnapshotFinder SnapshotRestorer ForkContext ForkMessage "
        "compute_context_diff ContextDiff MessagesDiff PromptDiff TokenDelta hash_system_prompt format_context_diff "
        "format_context_diff_json format_replay_event format_replay_list format_replay_summary",
        "unspool.trace": "generate_trace_id generate_span_id SpanStatus Span SpanEvent SpanNode SpanRecorder "
        "SpanWriter SpanReader build_span_tree SpanTree TraceMetadata TraceSummary analyze_trace BlameResult "
        "BlameEntry BlameSummary ErrorChain CriticalSegment format_trace_list format_trace_tree format_blame_result",
        "unspool.context": "ContextData CtxMessage analyze_context CtxProfileResult ClassificationResult ClassBucket "
        "ConsumerEntry predict_growth GrowthPrediction GrowthSnapshot AlertLevel format_ctx_profile "
        "format_growth_prediction",
    }
    for module, wanted in names.items():
        have = set(importlib.import_module(module).__all__)
        assert set(wanted.split()) <= have


def test_unknown_names_say_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unspool.nothing  # noqa: B018
