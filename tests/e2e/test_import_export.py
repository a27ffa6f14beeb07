"""`unspool import` and `unspool export` as commands: what they print, their exit codes, and that imported runs work."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unspool.interop.otlp_json import read_json
from unspool.interop.otlp_proto import read_proto, write_proto

SOURCE = Path(__file__).resolve().parents[2] / "src"
DATA = Path(__file__).resolve().parents[1] / "data" / "imports"
SESSION = DATA / "claude_code" / "ef958aa1-0e93-49f0-bb71-150f63befcd1.jsonl.gz"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number, parent="", **attributes):
    return {
        "traceId": TRACE, "spanId": f"{number:016x}", "parentSpanId": parent, "name": f"span {number}", "kind": 1,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number), "endTimeUnixNano": "1700000001000000000",
        "attributes": [{"key": name.replace("__", "."), "value": {"stringValue": value}}
                       for name, value in attributes.items()],
    }  # fmt: skip


def request(*spans):
    return {"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
                               "scopeSpans": [{"scope": {"name": "t"}, "spans": list(spans)}]}]}  # fmt: skip


@pytest.fixture
def unspool(tmp_path):
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("UNSPOOL_RUN", "COLUMNS", "NO_COLOR")
    }
    environment = {**inherited, "UNSPOOL_STORE": str(tmp_path / "store"), "PYTHONPATH": str(SOURCE)}

    def run(*args, text=True):
        command = [sys.executable, "-m", "unspool", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=text, env=environment, timeout=100, check=False)

    return run


def test_a_session_and_its_sub_agents_work_in_every_command(unspool):
    done = unspool("import", SESSION)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4)
    assert "not in the file: request parameters, system prompt, " in done.stderr
    for command, expected in (
        (["show", "1"], "claude-code"),
        (["trace", "show", "1"], "Agent"),
        (["blame", "1"], "model calls"),
        (["strace", "1"], "ToolCall"),
        (["flame", "1"], "claude-opus"),
        (["ls"], "experiment"),
        (["diff", "1@call:2", "1@call:3"], "System Prompt: unchanged"),
        (["show", "1@call:3"], "user"),
    ):
        shown = unspool(*command)
        assert shown.returncode == 0, (command, shown.stderr)
        assert expected in shown.stdout, command
    again = unspool("import", SESSION)
    assert (again.returncode, again.stdout) == (0, "")
    assert "imported before as" in again.stderr


def test_json_names_the_records(unspool):
    done = unspool("import", "--json", DATA / "trajectories")
    found = json.loads(done.stdout)["imported"]
    assert {one["format"] for one in found} == {"tau-bench", "swe-agent", "mini-swe-agent"}
    listed = {one["record_id"] for one in json.loads(unspool("ls", "--json").stdout)}
    assert {record["record_id"] for one in found for record in one["records"]} == listed
    assert all("tokens" in " ".join(record["missing"]) for one in found for record in one["records"])


@pytest.mark.parametrize("form", ["json", "proto", "lines", "gzip"])
def test_spans_become_a_trace_and_leave_as_they_came(unspool, tmp_path, form):
    whole = request(span(1), span(2, f"{1:016x}", gen_ai__operation__name="execute_tool", gen_ai__tool__name="search"))
    path = tmp_path / "spans"
    data = json.dumps(whole).encode()
    if form == "proto":
        data = write_proto(read_json(data).groups)
    elif form == "lines":
        data = b"".join(json.dumps(request(one)).encode() + b"\n" for one in
                        whole["resourceSpans"][0]["scopeSpans"][0]["spans"])  # fmt: skip
    elif form == "gzip":
        data = gzip.compress(data)
    path.write_bytes(data)
    done = unspool("import", path)
    assert (done.returncode, done.stdout) == (0, f"{TRACE}  2 spans\n"), done.stderr
    assert "└ span 2" in unspool("trace", "show", TRACE[:8]).stdout
    assert "imported before" in unspool("import", path).stderr
    target = tmp_path / "out.pb"
    assert unspool("export", TRACE[:8], "--format", "otlp", "-o", target).returncode == 0
    wanted, found = read_json(json.dumps(whole).encode()), read_proto(target.read_bytes())
    assert [carried for carried, _ in found.groups] == [wanted.groups[0][0]]
    assert sorted(found.groups[0][1], key=lambda one: one.span_id) == wanted.groups[0][1]


def test_a_file_broken_in_the_middle(unspool, tmp_path):
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(request(span(1))) + "\n{broken\n" + json.dumps(request(span(2))) + "\n")
    done = unspool("import", path)
    assert done.returncode == 1
    assert done.stdout == f"{TRACE}  2 spans\n"
    assert "left out: line 2: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_file_lists_the_formats(unspool, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    done = unspool("import", path)
    assert done.returncode == 1
    assert "not imported: " in done.stderr
    assert all(name in done.stderr for name in ("otlp", "claude-code", "codex", "vcr", "langfuse"))


@pytest.mark.parametrize("form", ["otlp", "otlp-json", "perfetto", "chrome", "speedscope", "html", "jsonl"])
def test_every_format_of_export(unspool, tmp_path, form):
    unspool("import", DATA / "vcr" / "test_chat_with_service_tier.yaml.gz")
    target = tmp_path / "out"
    done = unspool("export", "last", "--format", form, "-o", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert b"gpt-5" in target.read_bytes()
    assert oct(target.stat().st_mode & 0o777) == "0o600"
    refused = unspool("export", "last", "--format", form, "-o", target)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert unspool("export", "last", "--format", form, "-o", target, "--force").returncode == 0
    assert unspool("export", "last", "--format", form, text=False).stdout == target.read_bytes()


def test_export_says_what_it_does_not_find(unspool):
    done = unspool("export", "nothing", "--format", "html")
    assert done.returncode == 1
    assert "not found" in done.stderr or "no recordings" in done.stderr
