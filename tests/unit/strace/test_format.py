"""The line and the JSON of one call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unspool.events import SyscallEvent, complete_event, new_event
from unspool.strace import Options, format_event, format_event_json, truncate_string

PLAIN = Options()
COLOR = Options(color=True)
VERBOSE = Options(verbose=True)


def event(name: str = "Open", /, *, at: int = 12_000_000, args=None, result=None, err=None, duration: int = 0):
    return SyscallEvent(at, 1, name, args or {}, result, err, duration)


def line(name: str = "Open", /, options: Options = PLAIN, **fields) -> str:
    return format_event(event(name, **fields), options)


# --- the ordinary line -----------------------------------------------------------------------------------------------


def test_a_call_shows_time_name_arguments_result_and_duration():
    assert (
        line(args={"path": "/a", "flags": 2, "wait": True}, result=3, duration=1_500_000)
        == '[  0.012s] Open(flags=2, path="/a", wait=true) → 3    1ms'
    )


def test_an_event_as_the_library_makes_it():
    made = new_event(7, 0, "Open", {"path": "/a"})
    complete_event(made, "ok", None, 42_000)
    made.timestamp = 0
    assert format_event(made, PLAIN) == '[  0.000s] Open(path="/a") → ok    42µs'


@pytest.mark.parametrize(
    ("at", "mark"),
    [
        (0, "[  0.000s]"),
        (12_000_000, "[  0.012s]"),
        (1_234_500_000_000, "[1234.500s]"),
        (99_999_900_000_000, "[99999.900s]"),
    ],
)
def test_the_timestamp_is_seconds_seven_wide(at, mark):
    assert line(at=at).startswith(mark + " ")


def test_no_arguments_and_no_result():
    assert line() == "[  0.012s] Open() → <nil>    0µs"


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        (False, "false"),
        (0, "0"),
        ({"a": [1]}, '{"a": [1]}'),
        ("two\nlines\x1b[2J", r"two\nlines\x1b[2J"),
        (ValueError("as a value"), "as a value"),
        ("r" * 50, "r" * 50),
        ("r" * 51, "r" * 47 + "..."),
        (list(range(100)), str(list(range(100)))[:47] + "..."),
    ],
)
def test_results_are_unquoted_escaped_and_cut(result, shown):
    assert line(result=result) == f"[  0.012s] Open() → {shown}    0µs"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ("", '""'),
        ('say "hi"\n', '"say \\"hi\\"\\n"'),
        ("é" * 50, '"' + "é" * 50 + '"'),
        ("é" * 51, '"' + "é" * 48 + '..."'),
        (10**49, str(10**49)),
        (10**50, str(10**50)[:47] + "..."),
        ([1, "x"], '[1, "x"]'),
    ],
)
def test_arguments_are_as_json_writes_them_and_cut(value, shown):
    assert line(args={"k": value}) == f"[  0.012s] Open(k={shown}) → <nil>    0µs"


def test_verbose_cuts_nothing():
    long = "é" * 500
    shown = line(options=VERBOSE, args={"k": long, "n": [long]}, result=long)
    assert shown == f'[  0.012s] Open(k="{long}", n=["{long}"]) → {long}    0µs'


def test_arguments_are_sorted_by_bytes():
    assert "(A=1, a=1, b=1, é=1)" in line(args={"é": 1, "b": 1, "a": 1, "A": 1})


@pytest.mark.parametrize(("duration", "slow"), [(1_000_000_000, False), (1_000_000_001, True)])
def test_slow_is_strictly_more_than_a_second(duration, slow):
    assert ("  ← slow op" in line(duration=duration)) is slow


@pytest.mark.parametrize("key", ["path", "tool"])
def test_model_calls_are_marked_after_slow_ones(key):
    assert line(args={key: "/dev/llm/openai/gpt-5"}, duration=1_500_000_000).endswith(
        "    1.50s  ← slow op  ← LLM call"
    )
    assert "LLM" not in line(args={"other": "/dev/llm/x", key: 3})


def test_errors_replace_the_result_and_are_marked():
    fields = {"result": 3, "err": ValueError("no such file"), "duration": 2_000_000_000}
    assert line(**fields) == "[ERR] [  0.012s] Open() → err(no such file)    2.00s  ← slow op"
    assert line(options=COLOR, **fields) == ("\x1b[91m[  0.012s] Open() → err(no such file)    2.00s  ← slow op\x1b[0m")


def test_an_error_may_be_text_and_an_empty_one_is_none():
    assert "err(boom)" in line(err="boom")
    assert line(err="", result=1) == line(result=1)
    assert "err(TimeoutError)" in line(err=TimeoutError())
    assert len(line(err="<html>" * 10_000)) < 600


def test_only_the_slow_mark_is_gray():
    assert line(options=COLOR, args={"path": "/dev/llm/x"}, duration=2_000_000_000).endswith(
        "2.00s  \x1b[90m← slow op\x1b[0m  ← LLM call"
    )


def test_names_cannot_act_on_the_terminal():
    shown = line("Op\x1b[2Jen", args={"k\ney": 1})
    assert shown == r"[  0.012s] Op\x1b[2Jen(k\ney=1) → <nil>    0µs"


ODD = st.one_of(
    st.text(),
    st.binary(),
    st.floats(),
    st.integers(),
    st.sampled_from(["\ud800", object(), {1, 2}, float("nan"), "\x1b[2J\u202e\n"]),
    st.lists(st.binary()),
    st.dictionaries(st.integers(), st.text()),
)


@given(
    st.sampled_from(["Open", "ConfigResolve", "ReasonStep", "DriverThinking", "DriverTool", "InternalStep", "\n"]),
    st.dictionaries(
        st.one_of(
            st.text(),
            st.sampled_from(
                ["path", "tool", "action", "step", "subtype", "description", "command", "content", "provider", "model"]
            ),
        ),
        ODD,
        max_size=5,
    ),
    ODD,
    st.one_of(st.none(), st.text(), st.builds(ValueError, st.text())),
    st.booleans(),
)
def test_any_event_is_one_printable_line_and_one_valid_json_line(name, args, result, err, verbose):
    made = event(name, args=args, result=result, err=err, duration=5)
    shown = format_event(made, Options(verbose=verbose))
    shown.encode()
    assert shown.isprintable() or not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert len(shown.splitlines()) == 1
    document = format_event_json(made)
    document.encode()
    assert len(document.splitlines()) == 1
    json.loads(document, parse_constant=pytest.fail)


# --- special names ---------------------------------------------------------------------------------------------------

CONFIG = {"provider": "openai", "provider_source": "env", "model": "gpt-5", "model_source": "flag"}


def test_config_resolve_shows_where_settings_come_from():
    assert (
        line("ConfigResolve", args=CONFIG, result="ignored", duration=5_000)
        == "[  0.012s] ConfigResolve(provider=openai [env], model=gpt-5 [flag])    5µs"
    )
    assert "project_default=local)" in line("ConfigResolve", args={**CONFIG, "project_default": "local"})
    assert "project_default" not in line("ConfigResolve", args={**CONFIG, "project_default": ""})
    assert "model= [flag]" in line("ConfigResolve", args={**CONFIG, "model": ""})


def test_config_resolve_sources_are_gray_and_errors_marked():
    assert "provider=openai \x1b[90m[env]\x1b[0m, model=gpt-5 \x1b[90m[flag]\x1b[0m)" in line(
        "ConfigResolve", options=COLOR, args=CONFIG
    )
    failed = line("ConfigResolve", options=COLOR, args=CONFIG, err="no key")
    assert failed.startswith("\x1b[91m")
    assert "\x1b[90m" not in failed
    assert "err(no key)" in failed


def test_reason_step_begins_with_action_and_step():
    args = {"zeta": "a b", "step": 3, "action": "think", "alpha": [1]}
    assert (
        line("ReasonStep", args=args, result="\n   first thought \nsecond", duration=2_000_000_000)
        == '[  0.012s] ReasonStep(action="think", step=3, alpha=[1], zeta=a b) → first thought    2.00s  ← slow op'
    )


def test_reason_step_accepts_a_step_that_came_through_json():
    assert "step=3," in line("ReasonStep", args={"action": "a", "step": 3.0, "x": 1})


@pytest.mark.parametrize("result", [None, "", " \n\t\n"])
def test_reason_step_without_words_is_nil(result):
    assert "→ <nil>    " in line("ReasonStep", args={"action": "a", "step": 1}, result=result)


def test_reason_step_is_cut_at_80_and_never_an_llm_call():
    shown = line("ReasonStep", args={"action": "a", "step": 1, "path": "/dev/llm/x"}, result="w" * 81)
    assert f"→ {'w' * 80}...    0µs" in shown
    assert "LLM" not in shown
    assert f"→ {'w' * 80}    0µs" in line("ReasonStep", args={"step": 1}, result="w" * 80)
    assert "zz=" + "q" * 47 + "...)" in line("ReasonStep", args={"zz": "q" * 51})
    assert line("ReasonStep", args={"step": 1}, err="x", options=COLOR).startswith("\x1b[91m")


def test_driver_lines_are_remarks():
    args = {"tool": "Read", "path": "/src/a.py", "subtype": "start", "description": "read it", "command": "cat"}
    shown = '[  0.012s] DriverToolUse(tool=Read, path="/src/a.py", start) "read it"'
    assert line("DriverToolUse", args=args, result=1, duration=5) == shown
    assert line("DriverToolUse", args=args, options=COLOR) == f"\x1b[90m{shown}\x1b[0m"
    assert line("InternalStep", args={"command": "ls"}) == '[  0.012s] InternalStep() "ls"'


def test_driver_content_is_shown_for_thinking_only_and_if_it_adds_something():
    assert line("DriverThinking", args={"subtype": "s", "content": "deep"}).endswith('(s) "deep"')
    assert line("DriverThinking", args={"subtype": "s", "content": "s"}).endswith("(s)")
    assert line("DriverText", args={"subtype": "s", "content": "deep"}).endswith("(s)")


def test_driver_paths_keep_their_end_and_summaries_their_beginning():
    shown = line("DriverTool", args={"path": "é" * 40 + "x" * 47, "description": "d" * 61})
    assert shown.endswith(f'(path="...{"x" * 47}") "{"d" * 60}..."')
    assert line("DriverTool", args={"path": "x" * 50}).endswith(f'(path="{"x" * 50}")')


def test_driver_errors_are_not_hidden():
    assert line("DriverTool", args={"tool": "T"}, err="boom") == "[ERR] [  0.012s] DriverTool(tool=T) → err(boom)"
    failed = line("DriverTool", args={"tool": "T"}, err="boom", options=COLOR)
    assert failed.startswith("\x1b[91m")
    assert "\x1b[90m" not in failed


# --- JSON ------------------------------------------------------------------------------------------------------------

KEYS = ["timestamp_ms", "pid", "syscall", "args", "result", "error", "duration_ms"]
MORE_KEYS = ["timestamp_ns", "duration_ns", "seq_num", "trace_id", "span_id"]


def test_json_has_the_seeds_keys_first_and_exact_times_after():
    made = event(at=12_999_999, args={"p": "é"}, result={"n": 1}, duration=1_999_999)
    made.seq_num, made.trace_id, made.span_id = 4, "t" * 32, "s" * 32
    document = json.loads(format_event_json(made))
    assert list(document) == KEYS + MORE_KEYS
    assert list(document.values()) == [
        12,
        1,
        "Open",
        {"p": "é"},
        {"n": 1},
        "",
        1,
        12_999_999,
        1_999_999,
        4,
        "t" * 32,
        "s" * 32,
    ]


def test_json_of_a_bare_event_has_all_keys():
    document = json.loads(format_event_json(event()))
    assert list(document) == KEYS + MORE_KEYS
    assert [document[key] for key in ("args", "result", "error")] == [None, None, ""]


def test_an_error_as_error_or_result_becomes_its_text():
    document = json.loads(format_event_json(event(err=ValueError('say "no"'), result=KeyError("k"))))
    assert (document["error"], document["result"]) == ('say "no"', "'k'")


def test_a_value_json_lacks_costs_only_itself():
    document = json.loads(format_event_json(event(args={"good": 1, "bad": object()})))
    assert document["args"]["good"] == 1
    assert "object" in document["args"]["bad"]["$repr"]


def test_truncate_string_is_exported_here():
    assert truncate_string("abcdef", 2) == "ab..."
