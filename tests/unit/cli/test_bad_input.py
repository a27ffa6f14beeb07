"""What is wrong on a command line, or with where its output goes, is said in a sentence, with the exit code for it."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cli_events import model_call, state

from unspool.trace import SpanWriter
from unspool.trace.spans import Span, SpanStatus

MS = 1_000_000
T0 = 1_750_000_000_000_000_000


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf", "-1", "1e999", "much"])
@pytest.mark.parametrize(
    ("command", "option"), [("run", "--max-cost"), ("ls", "--min-cost"), ("ls", "--max-cost"), ("ctx", "--max-cost")]
)
def test_a_limit_of_cost_is_a_finite_amount(invoke, store, command, option, amount):
    result = invoke(command, option, amount, *(["--", "true"] if command == "run" else []))
    assert result.exit_code == 2
    assert "no amount of US dollars. Write for example 5 or 0.25" in result.stderr


@pytest.mark.parametrize(
    ("option", "said"), [("--budget", "no number of tokens"), ("--max-time", "no time. Write for example 90s")]
)
@pytest.mark.parametrize("amount", ["9" * 400, "nan", "-5", "1e400"])
def test_limits_nobody_can_reach_are_refused(invoke, store, option, said, amount):
    result = invoke("run", option, amount, "--", "true")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_an_option_run_does_not_have_is_not_taken_for_the_command(invoke, store):
    result = invoke("run", "--max-tokens", "5", "--", "true")
    assert result.exit_code == 2
    assert "no such option: --max-tokens" in result.stderr


def test_a_limit_beyond_all_numbers_lists_everything(invoke, agent_run):
    everything, found = (invoke("ls", "-n", limit).stdout.splitlines() for limit in ("0", "9" * 30))
    assert [line.split()[0] for line in found] == [line.split()[0] for line in everything]
    assert len(found) == 3


def test_messages_of_click_are_one_line_in_plain_words(invoke, agent_run):
    missing = invoke("export", "last")
    assert missing.exit_code == 2
    assert "Choose from: otlp, otlp-json, " in missing.stderr
    number = invoke("ls", "-n", "nan")
    assert (number.exit_code, "'nan' is not a whole number" in number.stderr) == (2, True)


def test_a_report_that_cannot_be_written_says_where(invoke, agent_run, tmp_path):
    result = invoke("report", "last", "-o", str(tmp_path / "no" / "run.html"))
    assert result.exit_code == 1
    assert f"cannot write {tmp_path}/no/run.html: No such file or directory" in result.stderr


def test_a_report_is_of_a_whole_run(invoke, agent_run):
    result = invoke("report", "last@3")
    assert result.exit_code == 2
    assert "give the recording alone: last" in result.stderr


@pytest.mark.parametrize("command", ["serve", "model-server", "web"])
def test_a_port_in_use_is_a_failure_that_says_what_to_choose(invoke, store, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = invoke(command, "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1, result.stderr
    assert "Choose another --port" in result.stderr or "--port" in result.stderr


@pytest.mark.parametrize("host", ["300.1.1.1", "no such host"])
def test_an_address_that_is_none_is_no_matter_of_the_port(invoke, store, host):
    result = invoke("serve", "--host", host, "--port", "0")
    assert result.exit_code == 1
    assert "Choose another --host" in result.stderr


def test_a_folder_without_events_says_what_is_wrong_with_it(invoke, store):
    bare = store.records / "7-20260101T000000-abcd"
    (bare / "events.jsonl").mkdir(parents=True)
    assert "events.jsonl is a folder, not a file" in invoke("show", "7").stderr
    (bare / "events.jsonl").rmdir()
    result = invoke("show", "7")
    assert (result.exit_code, "events.jsonl is missing" in result.stderr) == (1, True)


# --- where output goes -----------------------------------------------------------------------------------------------


def limited(*words: str, to: Path) -> subprocess.CompletedProcess[str]:
    """A command whose output no byte can be written of, as on a full disk."""
    with to.open("w") as full:
        return subprocess.run(
            [sys.executable, "-m", "unspool", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )


@pytest.mark.parametrize(
    "words", [("ls",), ("--help",), ("show", "last", "--json"), ("export", "last", "--format", "jsonl")]
)
def test_output_that_cannot_be_written_is_a_failure_said_in_one_line(agent_run, tmp_path, words):
    done = limited(*words, to=tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr


def test_it_says_that_it_was_standard_output(agent_run):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "unspool", "ls"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "unspool: No space left on device: standard output\n")


# --- amounts that are not known --------------------------------------------------------------------------------------


def test_a_trace_whose_counts_are_all_unknown_has_no_sum(invoke, as_json, make):
    make(state(), *model_call(1, read=None, written=None), *model_call(2, read=None, written=None))
    assert "tokens unknown" in invoke("trace", "show", "last").stdout.splitlines()[0]
    assert as_json("trace", "ls")[0]["tokens"] is None
    assert " ? " in invoke("trace", "ls").stdout.splitlines()[1]


def test_a_trace_of_which_some_counts_are_known_has_a_lower_bound(invoke, make):
    make(state(), *model_call(1), *model_call(2, read=None, written=None))
    assert "+ tokens" in invoke("trace", "show", "last").stdout.splitlines()[0]


def test_only_an_end_that_is_not_known_has_a_plus(invoke, store):
    writer = SpanWriter(store.traces)
    root = Span("a" * 32, "r" * 16, "", 1, "root", T0, T0 + 9 * MS)
    cut_off = Span("a" * 32, "c" * 16, root.span_id, 1, "cut off", T0, T0 + 5 * MS, status=SpanStatus.OPEN)
    endless = Span("a" * 32, "e" * 16, root.span_id, 1, "endless", T0, 0, status=SpanStatus.OPEN)
    for span in (root, cut_off, endless):
        writer.write_span(span)
    lines = {
        line.split("  ")[0].strip("├└ ◌").removesuffix(" (PID 1)"): line
        for line in invoke("trace", "show", "aaaa").stdout.splitlines()
    }
    assert "5ms " in lines["cut off"]
    assert "m+ " in lines["endless"]


# --- files that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["[", "{", "- ", "? "])
def test_a_cassette_nested_without_end_is_refused_and_ends_no_process(store, tmp_path, mark):
    path = tmp_path / "deep.yaml"
    path.write_text("interactions:\n " + mark * 100_000)
    words = [sys.executable, "-m", "unspool", "import", "--format", "vcr", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "nested more than" in done.stderr or "not readable as YAML" in done.stderr


def test_a_damaged_gzip_file_is_not_called_empty(invoke, store, tmp_path):
    path = tmp_path / "run.json.gz"
    path.write_bytes(b"\x1f\x8bgarbage")
    result = invoke("import", str(path))
    assert result.exit_code == 1
    assert "is empty" not in result.stderr
    assert "nothing in it can be read" in result.stderr
