"""What spans of other tools' instrumentations mean: OpenTelemetry's GenAI conventions, OpenInference, OpenLLMetry.

Attributes stay as they came. What unspool reads under a name of its own (`trace.names`) is added under that name where
it is not there; where a count has to be corrected, the old value is kept, so that an export gives back what came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from unspool.providers.wire import as_object, decode_json
from unspool.trace import names
from unspool.trace.names import value_digest

__all__ = ["Meaning", "meaning_of"]

_OPERATIONS: Final = {
    "chat": "llm",
    "generate_content": "llm",
    "text_completion": "llm",
    "completion": "llm",
    "embeddings": "llm",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "agent",
}
_OPENINFERENCE: Final = {"LLM": "llm", "EMBEDDING": "llm", "TOOL": "tool", "AGENT": "agent"}
_TRACELOOP: Final = {"tool": "tool", "agent": "agent"}
_REQUEST_TYPES: Final = {"chat": "llm", "completion": "llm", "embedding": "llm"}
_LANGFUSE: Final = {"generation": "llm", "embedding": "llm", "tool": "tool", "agent": "agent"}
_OWN: Final = {"llm": "llm", "tool": "tool", "agent": "agent", "other": "other"}
_KINDS: Final = (
    ("unspool.kind", _OWN),
    ("gen_ai.operation.name", _OPERATIONS),
    ("openinference.span.kind", _OPENINFERENCE),
    ("traceloop.span.kind", _TRACELOOP),
    ("llm.request.type", _REQUEST_TYPES),
    ("langfuse.observation.type", _LANGFUSE),
)

# Where each tool puts what unspool reads under the first name. The older names of the conventions follow the current
# ones; OpenLLMetry's and pydantic-ai's stand behind them, then OpenInference's.
_COUNTS: Final = (
    (names.INPUT, ("gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt")),
    (names.OUTPUT, ("gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", "llm.token_count.completion")),
    (names.CACHED, ("gen_ai.usage.cache_read_input_tokens", "llm.usage.cache_read_input_tokens",
                    "gen_ai.usage.details.cache_read_tokens", "llm.token_count.prompt_details.cache_read")),
    (names.CACHE_WRITE, ("gen_ai.usage.cache_creation_input_tokens", "llm.usage.cache_creation_input_tokens",
                         "gen_ai.usage.details.cache_write_tokens", "llm.token_count.prompt_details.cache_write")),
    (names.REASONING, ("gen_ai.usage.reasoning_tokens", "llm.usage.reasoning_tokens",
                       "gen_ai.usage.details.reasoning_tokens", "llm.token_count.completion_details.reasoning")),
)  # fmt: skip
_TEXTS: Final = (
    (names.REQUEST_MODEL, ("llm.request.model_name", "llm.model_name", "embedding.model_name",
                           "langfuse.observation.model.name")),
    (names.MODEL, ("llm.response.model_name",)),
    (names.PROVIDER, ("gen_ai.system", "llm.provider", "llm.system")),
)  # fmt: skip
_TOOL_NAMES: Final = ("tool.name", "traceloop.entity.name", "ai.toolCall.name")
_TOOL_INPUTS: Final = ("gen_ai.tool.call.arguments", "input.value", "tool.parameters", "traceloop.entity.input")
_TOOL_RESULTS: Final = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
_COSTS: Final = ("llm.cost.total", "gen_ai.usage.cost", "operation.cost", "gen_ai.cost.total_cost")


class Meaning(Struct):
    """What a span is. `added` are attributes to add, `was` those of them that replace another value.

    `tokens` is None for a model call without counts, and 0 for all other spans: those that sum up the calls below them
    would count them twice.
    """

    kind: str
    tokens: int | None
    cost_usd: float | None
    added: dict[str, Any]
    was: dict[str, Any]


def meaning_of(attributes: dict[str, Any], message: str = "") -> Meaning:
    """What these attributes say.

    Args:
        message: of the status, if the span failed.
    """
    kind = _kind(attributes)
    meaning = Meaning(kind, 0, None, {}, {})
    added = meaning.added
    if message and names.ERROR_MESSAGE not in attributes:
        added[names.ERROR_MESSAGE] = message
    if kind == "llm":
        _model_call(attributes, meaning)
    elif kind == "tool":
        _first_text(attributes, added, names.TOOL_NAME, _TOOL_NAMES)
        for name, sources in ((names.ARGS, _TOOL_INPUTS), (names.RESULT, _TOOL_RESULTS)):
            value = next((attributes[one] for one in sources if one in attributes), None)
            if value is not None and name not in attributes:
                added[name] = value_digest(value)
    return meaning


def _kind(attributes: dict[str, Any]) -> str:
    for name, kinds in _KINDS:
        value = attributes.get(name)
        if value is not None:
            found = kinds.get(value) if type(value) is str else None
            if found is not None:
                return found
    if attributes.get("mcp.method.name") == "tools/call":
        return "tool"
    # Before `gen_ai.operation.name` was there, what named a system and a model was a model call.
    if "gen_ai.operation.name" not in attributes and "gen_ai.request.model" in attributes:
        return "llm" if "gen_ai.system" in attributes or "gen_ai.provider.name" in attributes else "other"
    return "other"


def _model_call(attributes: dict[str, Any], meaning: Meaning) -> None:
    added = meaning.added
    for name, sources in _TEXTS:
        _first_text(attributes, added, name, sources)
    if names.REQUEST_MODEL not in attributes and names.REQUEST_MODEL not in added:
        _model_in_parameters(attributes, added)
    counts: dict[str, int] = {}
    for name, sources in _COUNTS:
        count = _count(attributes.get(name))
        if count is None:
            for source in sources:
                count = _count(attributes.get(source))
                if count is not None:
                    _put(attributes, meaning, name, count)
                    break
        if count is not None:
            counts[name] = count
    read, written = counts.get(names.INPUT), counts.get(names.OUTPUT)
    beside = counts.get(names.CACHED, 0) + counts.get(names.CACHE_WRITE, 0)
    if read is not None and read < beside:
        # Anthropic counts what is neither read from the cache nor written to it; some instrumentations pass that on.
        read += beside
        _put(attributes, meaning, names.INPUT, read)
    meaning.tokens = None if read is None and written is None else (read or 0) + (written or 0)
    cost = next((attributes[name] for name in _COSTS if name in attributes), None)
    if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0:
        meaning.cost_usd = float(cost)


def _model_in_parameters(attributes: dict[str, Any], added: dict[str, Any]) -> None:
    """OpenInference names the model when there is an answer; of a call that failed its parameters tell."""
    parameters = attributes.get("llm.invocation_parameters")
    if type(parameters) is str and '"model"' in parameters:
        try:
            model = as_object(decode_json(parameters)).get("model")
        except ValueError:
            return
        if type(model) is str and model:
            added[names.REQUEST_MODEL] = model


def _put(attributes: dict[str, Any], meaning: Meaning, name: str, value: Any) -> None:
    if name in attributes:
        meaning.was[name] = attributes[name]
    meaning.added[name] = value


def _first_text(attributes: dict[str, Any], added: dict[str, Any], name: str, sources: Sequence[str]) -> None:
    if name in attributes:
        return
    for source in sources:
        value = attributes.get(source)
        if type(value) is str and value:
            added[name] = value
            return


def _count(value: Any) -> int | None:
    """Some exporters write counts as doubles or as text."""
    if type(value) is int:
        return value if 0 <= value <= 2**53 else None
    if type(value) is float and value.is_integer():
        return int(value) if 0 <= value <= 2**53 else None
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return None
