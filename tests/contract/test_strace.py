"""unspool.strace against the contract, one sentence a test."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time

import pytest

from unspool.errors import Cancelled
from unspool.events import EventChannel, SyscallEvent, emit_event
from unspool.strace import (
    Options,
    aattach,
    attach,
    default_options,
    format_event,
    format_event_json,
    truncate_string,
)

PLAIN, COLOR, VERBOSE = Options(color=False), Options(color=True), Options(color=False, verbose=True)
RED, GRAY, RESET = "\x1b[91m", "\x1b[90m", "\x1b[0m"
MS = 1_000_000


def event(name="Open", args=None, result=None, err=None, duration=12 * MS, timestamp=12 * MS) -> SyscallEvent:
    return SyscallEvent(timestamp, 1, name, args, result, err, duration)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "color"), [(None, True), ("", True), ("1", False), ("0", False)], ids=["unset", "empty", "1", "0"]
)
def test_no_color_counts_when_set_and_not_empty(monkeypatch, value, color):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    made = default_options(Terminal())
    assert (made.color, made.verbose, made.json, made.formatter) == (color, False, False, None)


def test_color_is_off_when_the_output_is_no_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert default_options(stream=io.StringIO()).color is False


def test_options_can_be_adjusted_after_default_options():
    made = default_options(io.StringIO())
    made.verbose = True
    assert made.verbose


@pytest.mark.parametrize(
    ("timestamp", "mark"), [(12 * MS, "[  0.012s]"), (1_234_500 * MS, "[1234.500s]"), (0, "[  0.000s]")]
)
def test_the_time_is_seconds_with_three_decimals_in_seven_columns(timestamp, mark):
    assert format_event(event(timestamp=timestamp), PLAIN) == f"{mark} Open() → <nil>    12ms"


def test_args_are_sorted_and_values_are_as_json_writes_them():
    args = {"z": True, "a": "x", "m": 1.5, "n": None, "Z": 3}
    line = format_event(event(args=args, result="done"), PLAIN)
    assert line == '[  0.012s] Open(Z=3, a="x", m=1.5, n=null, z=true) → done    12ms'


@pytest.mark.parametrize(("length", "cut"), [(50, False), (51, True)])
def test_a_quoted_string_over_52_code_points_is_cut_to_49(length, cut):
    shown = '"' + "é" * 48 + '..."' if cut else '"' + "é" * length + '"'
    assert f"Open(a={shown}) →" in format_event(event(args={"a": "é" * length}), PLAIN)


def test_a_value_over_50_code_points_is_cut_to_47():
    numbers = list(range(40))
    assert f"Open(a={json.dumps(numbers)[:47]}...) →" in format_event(event(args={"a": numbers}), PLAIN)


def test_a_result_is_cut_like_an_argument_unless_verbose():
    text = "r" * 60
    assert f" → {text[:47]}...    " in format_event(event(result=text), PLAIN)
    assert f" → {text}    " in format_event(event(result=text), VERBOSE)


def test_verbose_shows_arguments_whole():
    assert f'Open(a="{"x" * 300}") →' in format_event(event(args={"a": "x" * 300}), VERBOSE)


@pytest.mark.parametrize("options", [PLAIN, VERBOSE])
@pytest.mark.parametrize("name", ["Open", "ReasonStep", "DriverThinking", "ConfigResolve"])
def test_control_characters_are_escaped_everywhere(name, options):
    evil = "a\x1b[31m\n\r\x07\x9b"
    args = {"a" + evil: evil, "path": evil, "provider": evil, "action": evil, "content": evil, "subtype": "s"}
    line = format_event(event(name, args, evil), options) + format_event(event(name, args, None, evil), options)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in line)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0µs"),
        (999_999, "999µs"),
        (MS, "1ms"),
        (999_999_999, "999ms"),
        (1_000_000_000, "1.00s"),
        (1_500_000_000, "1.50s"),
        (75_250_000_000, "75.25s"),
    ],
)
def test_durations(duration, text):
    assert format_event(event(duration=duration), PLAIN).split("    ")[1].split("  ")[0] == text


def test_slow_is_strictly_over_one_second():
    assert "slow op" not in format_event(event(duration=1_000 * MS), PLAIN)
    assert format_event(event(duration=1_000 * MS + 1), PLAIN).endswith("    1.00s  ← slow op")


@pytest.mark.parametrize("key", ["path", "tool"])
def test_a_model_call_is_marked_after_the_slow_mark(key):
    line = format_event(event(args={key: "/dev/llm/x"}, duration=2_000 * MS), PLAIN)
    assert line.endswith("    2.00s  ← slow op  ← LLM call")


def test_only_string_arguments_make_a_model_call():
    assert "LLM call" not in format_event(event(args={"path": ["/dev/llm/x"], "other": "/dev/llm/x"}), PLAIN)


def test_with_color_the_slow_mark_alone_is_gray():
    line = format_event(event(duration=2_000 * MS), COLOR)
    assert line == f"[  0.012s] Open() → <nil>    2.00s  {GRAY}← slow op{RESET}"


def test_an_error_hides_the_result_and_is_prefixed_without_color():
    assert format_event(event(result="x", err=OSError("gone")), PLAIN) == "[ERR] [  0.012s] Open() → err(gone)    12ms"


def test_with_color_the_whole_line_of_an_error_is_red_and_has_no_gray():
    line = format_event(event(err="gone", duration=2_000 * MS), COLOR)
    assert line == f"{RED}[  0.012s] Open() → err(gone)    2.00s  ← slow op{RESET}"


CONFIG = {"provider": "p", "provider_source": "env", "model": "", "model_source": "default"}


def test_config_resolve():
    line = format_event(event("ConfigResolve", CONFIG, "ignored"), PLAIN)
    assert line == "[  0.012s] ConfigResolve(provider=p [env], model= [default])    12ms"
    line = format_event(event("ConfigResolve", {**CONFIG, "project_default": "d"}), COLOR)
    inside = f"provider=p {GRAY}[env]{RESET}, model= {GRAY}[default]{RESET}, project_default=d"
    assert line == f"[  0.012s] ConfigResolve({inside})    12ms"


@pytest.mark.parametrize("step", [3, 3.0])
def test_reason_step_puts_action_and_step_first_and_shows_the_first_line(step):
    args = {"b": "two", "step": step, "action": "think", "a": True}
    line = format_event(event("ReasonStep", args, "\n  \n  first  \nsecond"), PLAIN)
    assert line == '[  0.012s] ReasonStep(action="think", step=3, a=true, b=two) → first    12ms'


def test_reason_step_cuts_its_result_at_80_code_points():
    assert f" → {'é' * 80}...    " in format_event(event("ReasonStep", {}, "é" * 81), PLAIN)
    assert f" → {'é' * 80}    " in format_event(event("ReasonStep", {}, "é" * 80), PLAIN)
    assert " → <nil>    " in format_event(event("ReasonStep", {}, " \n "), PLAIN)


def test_reason_step_has_no_model_mark():
    assert "LLM" not in format_event(event("ReasonStep", {"path": "/dev/llm/x"}), PLAIN)


def test_driver_lines():
    args = {"tool": "T", "path": "P", "subtype": "sub", "description": "what", "command": "c"}
    assert format_event(event("DriverToolUse", args), PLAIN) == '[  0.012s] DriverToolUse(tool=T, path="P", sub) "what"'
    assert format_event(event("InternalStep", {"command": "c"}), COLOR) == f'{GRAY}[  0.012s] InternalStep() "c"{RESET}'


def test_a_driver_path_keeps_its_end_and_its_summary_is_cut_at_60():
    line = format_event(event("DriverX", {"path": "p" * 51, "description": "d" * 61}), PLAIN)
    assert line == f'[  0.012s] DriverX(path="...{"p" * 47}") "{"d" * 60}..."'


def test_only_driver_thinking_shows_content_that_differs_from_its_subtype():
    args = {"subtype": "s", "content": "c"}
    assert format_event(event("DriverThinking", args), PLAIN).endswith('(s) "c"')
    assert format_event(event("DriverThinking", {"subtype": "s", "content": "s"}), PLAIN).endswith("(s)")
    assert format_event(event("DriverOther", args), PLAIN).endswith("(s)")


@pytest.mark.parametrize("name", ["DriverX", "ConfigResolve", "ReasonStep"])
def test_errors_are_marked_on_special_lines_too(name):
    assert format_event(event(name, {}, err="bad"), PLAIN).startswith("[ERR] ")
    assert "bad" in format_event(event(name, {}, err="bad"), PLAIN)


KEYS = "timestamp_ms pid syscall args result error duration_ms timestamp_ns duration_ns seq_num trace_id span_id"


def test_json_has_the_seven_keys_of_the_seed_first():
    found = json.loads(format_event_json(event(args={"a": 1}, result=[1], duration=1_999_999, timestamp=1_999_999)))
    assert " ".join(found) == KEYS
    assert (found["timestamp_ms"], found["duration_ms"]) == (1, 1)
    assert (found["timestamp_ns"], found["duration_ns"]) == (1_999_999, 1_999_999)
    assert (found["args"], found["result"], found["error"]) == ({"a": 1}, [1], "")


def test_json_keys_are_always_present():
    found = json.loads(format_event_json(event(args=None)))
    assert " ".join(found) == KEYS
    assert (found["args"], found["result"], found["error"]) == (None, None, "")


def test_a_result_that_is_an_error_becomes_its_text():
    found = json.loads(format_event_json(event(result=ValueError("bad"), err=OSError("gone"))))
    assert (found["result"], found["error"]) == ("bad", "gone")


def test_a_value_json_cannot_hold_replaces_only_itself():
    found = json.loads(format_event_json(event(args={"bad": object(), "nan": float("nan"), "good": 1})))
    assert found["args"]["good"] == 1
    assert found["syscall"] == "Open"


def test_json_is_one_line():
    assert "\n" not in format_event_json(event(args={"a": "x\ny"}, result="\u2028\n"))


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [("abc", 3, "abc"), ("abcd", 3, "abc..."), ("é漢字", 2, "é漢..."), ("a", 0, "..."), ("", 0, "")],
)
def test_truncate_string_counts_code_points(text, limit, cut):
    assert truncate_string(text, limit) == cut


def test_truncate_string_refuses_a_negative_length():
    with pytest.raises(ValueError, match="negative"):
        truncate_string("a", -1)


def filled(*names: str) -> EventChannel:
    channel = EventChannel(16)
    for name in names:
        emit_event(channel, event(name))
    return channel


def test_attach_drains_a_closed_channel_and_returns():
    channel, out = filled("A", "B"), io.StringIO()
    channel.close()
    assert attach(channel, out, PLAIN) is None
    assert out.getvalue() == "[  0.012s] A() → <nil>    12ms\n[  0.012s] B() → <nil>    12ms\n"


def test_each_line_is_one_write_flushed_at_once():
    class Out:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def write(self, text: str) -> None:
            self.calls.append(text)

        def flush(self) -> None:
            self.calls.append("flush")

    channel, out = filled("A", "B"), Out()
    channel.close()
    attach(channel, out, PLAIN)
    assert [call[-1] for call in out.calls] == ["\n", "h", "\n", "h"]


def test_json_wins_over_the_formatter_and_the_formatter_over_the_default():
    for options, first in [
        (Options(json=True, formatter=lambda _: "own"), "{"),
        (Options(formatter=lambda _: "own"), "o"),
    ]:
        channel, out = filled("A"), io.StringIO()
        channel.close()
        attach(channel, out, options)
        assert out.getvalue()[0] == first


def test_attach_raises_cancelled_when_stop_is_set_and_writes_what_was_buffered():
    channel, out, stop = filled("A"), io.StringIO(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Cancelled):
        attach(channel, out, PLAIN, stop=stop)
    assert out.getvalue().count("\n") == 1


def test_an_error_of_the_writer_is_raised_at_once():
    class Broken:
        def write(self, _text: str) -> None:
            raise BrokenPipeError("gone")

    with pytest.raises(BrokenPipeError):
        attach(filled("A"), Broken(), PLAIN)


def test_two_attaches_both_see_every_event():
    channel, outs = EventChannel(16), [io.StringIO(), io.StringIO()]
    threads = [threading.Thread(target=attach, args=(channel, out, PLAIN)) for out in outs]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(channel._alive()) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    for name in "ABC":
        emit_event(channel, event(name))
    channel.close()
    for thread in threads:
        thread.join(5)
    assert [out.getvalue().count("\n") for out in outs] == [3, 3]


def test_lost_events_are_reported_in_the_stream():
    channel, out = EventChannel(1), io.StringIO()
    for name in "ABC":
        emit_event(channel, event(name))
    channel.close()
    attach(channel, out, PLAIN)
    assert "2 dropped" in out.getvalue()


def test_aattach_writes_until_the_channel_closes():
    async def run() -> str:
        channel, out = filled("A"), io.StringIO()
        task = asyncio.create_task(aattach(channel, out, PLAIN))
        await asyncio.sleep(0.01)
        emit_event(channel, event("B"))
        channel.close()
        await task
        return out.getvalue()

    assert asyncio.run(run()).count("\n") == 2
