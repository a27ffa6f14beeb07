"""`unspool rerun` from outside: agents on the real SDK, recorded, and run again with their server stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from capture_harness import Result, environment, recordings, run

from unspool.demo.server import ModelServer

AGENT = """\
import datetime, os, sys, uuid
from openai import OpenAI

client = OpenAI(max_retries=0)


def ask(text):
    answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


print(ask("first"))
print(ask(f"now {datetime.datetime.now().isoformat()} {uuid.uuid4()}"))
print(ask("third"))
print(os.environ.get("AGENT_SAYS", "end"))
sys.exit(int(os.environ.get("AGENT_CODE", "0")))
"""


class Home:
    """A folder with an agent and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.script = folder / "agent.py"

    def unspool(self, *args: str | Path, **env: str) -> Result:
        command = [sys.executable, "-m", "unspool", *args]
        return run(command, environment(None, NO_COLOR="1", **env), cwd=self.folder)

    def record(self, code: str, *args: str, **env: str) -> Result:
        """Run the agent recorded, against a server that is stopped afterwards."""
        self.script.write_text(code)
        with ModelServer() as server:
            url = f"{server.url}/v1"
            command = ("run", "-q", "--store", self.store, "--", sys.executable, "agent.py", *args)
            result = self.unspool(*command, OPENAI_BASE_URL=url, **env)
        assert result.code == int(env.get("AGENT_CODE", "0")), result.stderr
        return result

    def rerun(self, *args: str | Path, **env: str) -> Result:
        return self.unspool("rerun", "--store", self.store, *args, **env)

    def rerun_json(self, *args: str | Path, **env: str) -> dict[str, Any]:
        result = self.rerun("--json", *args, **env)
        document: dict[str, Any] = json.loads(result.stdout)
        assert document["exit_code"] == result.code
        return document

    def record_ids(self) -> list[str]:
        return sorted(path.name for path in (self.store / "records").iterdir())

    def rerun_folders(self) -> list[Path]:
        folder = self.store / "reruns"
        return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_identical_rerun_says_so_and_leaves_nothing(home: Home) -> None:
    recorded = home.record(AGENT)
    before = home.record_ids()
    again = home.rerun("last")
    assert again.code == 0, again.stderr.decode()
    assert again.stdout == recorded.stdout
    report = again.stderr.decode()
    assert "identical" in report
    assert "3 of 3 byte-identical" in report
    assert home.record_ids() == before
    assert home.rerun_folders() == []


def test_keep_keeps_the_recording_and_the_folder_and_last_does_not_mean_it(home: Home) -> None:
    home.record(AGENT)
    [source] = home.record_ids()
    outcome = home.rerun_json("--keep", "last")
    assert outcome["status"] == "identical"
    assert outcome["kept"]
    assert outcome["rerun"] in home.record_ids()
    assert [str(folder) for folder in home.rerun_folders()] == [outcome["folder"]]
    assert home.rerun_json("last")["source"] == source
    listing = home.unspool("ls", "--store", home.store).stdout.decode()
    assert "rerun of 1:" in listing
    [kept] = [one for one in recordings(home.store) if one.metadata.record_id == outcome["rerun"]]
    assert kept.metadata.rerun_of == source
    assert kept.metadata.launched == [sys.executable, "agent.py"]


def test_a_changed_prompt_is_a_divergence_with_place_difference_and_cause(home: Home) -> None:
    home.record(AGENT)
    home.script.write_text(AGENT.replace('"third"', '"third, please"'))
    result = home.rerun("last")
    assert result.code == 3
    report = result.stderr.decode()
    assert "diverged after 2 of 3 requests" in report
    assert "agent.py:14 <module>" in report
    assert "@call:3" in report
    assert "third" in report
    assert "the program was changed" in report
    assert len(home.record_ids()) == 2  # the rerun's own, to be compared with
    assert f"unspool diff {home.record_ids()[0]}" in report
    outcome = home.rerun_json("1")
    [divergence] = outcome["divergences"]
    assert divergence["expected"]["call"] == 3
    assert divergence["at"] == "agent.py:8 ask"
    assert [near["place"]["call"] for near in divergence["nearest"]]
    assert all("already served" in near["why"] for near in divergence["nearest"])
    assert "code" in [cause["kind"] for cause in divergence["causes"]]
    assert outcome["stdout"]["verdict"] == "beginning"


def test_without_pins_the_clock_and_the_random_id_are_named_with_their_line(home: Home) -> None:
    home.record(AGENT)
    [divergence] = home.rerun_json("--no-pin", "last")["divergences"]
    causes = {cause["kind"]: cause["evidence"] for cause in divergence["causes"]}
    assert {"clock", "random"} <= causes.keys()
    assert any("agent.py:13" in text and "datetime.now" in text for text in causes["clock"])
    assert any("agent.py:13" in text and "uuid4" in text for text in causes["random"])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (('print(ask("first"))\n', ""), "missing"),
        (('print(ask("third"))', 'print(ask("third"))\nask("third")'), "inserted"),
    ],
)
def test_a_call_left_out_or_made_once_more_is_told(home: Home, change: tuple[str, str], kind: str) -> None:
    home.record(AGENT)
    home.script.write_text(AGENT.replace(*change))
    outcome = home.rerun_json("last")
    assert outcome["status"] == "diverged"
    [divergence] = outcome["divergences"]
    assert kind in [cause["kind"] for cause in divergence["causes"]]


def test_calls_missing_at_the_end_are_a_divergence(home: Home) -> None:
    home.record(AGENT)
    home.script.write_text(AGENT.replace('print(ask("third"))\n', ""))
    outcome = home.rerun_json("last")
    assert outcome["exit_code"] == 3
    assert outcome["divergences"] == []
    assert [place["call"] for place in outcome["not_made"]] == [3]


def test_other_output_or_another_exit_code_is_different_and_no_divergence(home: Home) -> None:
    home.record(AGENT)
    result = home.rerun("last", AGENT_SAYS="something else")
    assert result.code == 1
    assert "+something else" in result.stderr.decode()
    assert "-end" in result.stderr.decode()
    outcome = home.rerun_json("1", AGENT_CODE="4")
    assert (outcome["exit_code"], outcome["program_exit"], outcome["recorded_exit"]) == (1, 4, 0)
    assert outcome["stdout"]["verdict"] == "identical"


def test_output_that_was_not_recorded_is_said_and_not_taken_for_identical(home: Home) -> None:
    home.record(AGENT)
    [source] = home.record_ids()
    for name in ("stdout", "stdout.jsonl"):
        (home.store / "records" / source / name).unlink()
    result = home.rerun("last")
    assert result.code == 1
    assert "not compared" in result.stderr.decode()


def test_a_missing_credential_is_replaced_and_a_missing_variable_listed(home: Home) -> None:
    home.record(AGENT, MY_AGENT_MODE="x")
    env = {name: value for name, value in environment(None).items() if not name.endswith("_API_KEY")}
    done = run(
        [sys.executable, "-m", "unspool", "rerun", "--json", "--store", home.store, "last"], env, cwd=home.folder
    )
    outcome = json.loads(done.stdout)
    assert outcome["status"] == "identical", done.stderr
    assert "OPENAI_API_KEY" in outcome["surroundings"]["placeholders"]
    assert "MY_AGENT_MODE" in outcome["surroundings"]["missing"]


def test_a_credential_on_the_command_line_is_given_again(home: Home) -> None:
    code = AGENT.replace("sys.exit(", "print(len(sys.argv[1]))\nsys.exit(")
    home.record(code, "sk-not-to-be-written", MY_API_KEY="sk-not-to-be-written")
    [one] = recordings(home.store)
    assert one.metadata.launched is not None
    assert one.metadata.launched[-1] == "${MY_API_KEY}"
    assert home.rerun("last", MY_API_KEY="sk-not-to-be-written").code == 0


def test_the_recorded_folder_and_environment_are_used(home: Home, tmp_path: Path) -> None:
    code = AGENT.replace(
        "sys.exit(", "print(os.getcwd(), os.environ.get('LANG'), os.environ.get('NO_COLOR'))\nsys.exit("
    )
    home.record(code, LANG="C.UTF-8")
    other = tmp_path / "elsewhere"
    other.mkdir()
    env = environment(None, LANG="xx")
    done = run([sys.executable, "-m", "unspool", "rerun", "--store", home.store, "last"], env, cwd=other)
    assert done.code == 0, done.stderr.decode()


@pytest.mark.parametrize("gone", ["folder", "program"])
def test_what_is_gone_is_named_with_what_to_do(home: Home, tmp_path: Path, gone: str) -> None:
    inner = Home(tmp_path / "project")
    inner.folder.mkdir()
    inner.store = home.store
    inner.record(AGENT)
    if gone == "folder":
        shutil.rmtree(inner.folder)
    else:
        inner.script.unlink()
    result = home.rerun("last")
    assert result.code == 2
    assert "not there any more" in result.stderr.decode()
    assert home.rerun_folders() == []


def test_a_point_is_refused_and_so_is_a_deny_that_does_not_exist(home: Home) -> None:
    home.record(AGENT)
    point = home.rerun("last@call:2")
    assert point.code == 2
    assert "fork" in point.stderr.decode()
    wrong = home.rerun("--deny", "everything", "last")
    assert wrong.code == 2
    assert "fs-write" in wrong.stderr.decode()


def test_a_rerun_folder_that_cannot_be_made_starts_nothing(home: Home) -> None:
    home.record(AGENT)
    (home.store / "reruns").write_text("in the way")
    result = home.rerun("last")
    assert result.code == 1
    assert result.stdout == b""
    assert "cannot prepare the rerun" in result.stderr.decode()


def test_what_a_served_tool_printed_need_not_come_again(home: Home) -> None:
    code = AGENT.replace(
        'print(ask("third"))',
        """import unspool

@unspool.tool
def look(name):
    print("looking for", name)
    return name.upper()

print(look("x"))
print(ask("third"))""",
    )
    assert b"looking for x" in home.record(code).stdout
    outcome = home.rerun_json("last")
    assert outcome["tools_served"] == 1
    assert outcome["stdout"]["verdict"] == "identical"
    assert outcome["stdout"]["by_tools"] == 1
    live = home.rerun_json("--live-tools", "look", "last")
    assert live["status"] == "identical"
    assert live["stdout"]["by_tools"] == 0
    assert [use["path"] for use in live["tools_live"]] == ["/dev/tool/look"]


TOOL_RESULT = """\
import os, unspool
from openai import OpenAI

@unspool.tool
def look(name):
    return os.environ.get("LOOK", "the lamp arrived in good order")

client = OpenAI(max_retries=0)
call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
messages = [
    {"role": "user", "content": "how did it arrive?"},
    {"role": "assistant", "content": None, "tool_calls": [call]},
    {"role": "tool", "tool_call_id": "c1", "content": look("lamp")},
]
client.chat.completions.create(model="echo", messages=messages)
"""


def test_a_tool_that_runs_for_real_and_says_something_else_is_the_cause(home: Home) -> None:
    home.record(TOOL_RESULT)
    outcome = home.rerun_json("--live-tools", "look", "last", LOOK="the lamp arrived in bad order")
    [divergence] = outcome["divergences"]
    cause = divergence["causes"][0]
    assert cause["kind"] == "tool"
    assert any("look ran for real at agent.py:13" in text for text in cause["evidence"])
    [edited] = divergence["context"]["messages"]["edited"]
    assert "good" in edited["before"]
    assert "bad" in edited["after"]


def test_on_divergence_live_goes_on_and_is_still_a_divergence(home: Home) -> None:
    home.record(AGENT)
    home.script.write_text(AGENT.replace('"third"', '"third, please"'))
    with ModelServer() as server:
        url = f"{server.url}/v1"
        recorded = home.store / "records" / home.record_ids()[0] / "metadata.json"
        document = json.loads(recorded.read_text())
        document["env"]["OPENAI_BASE_URL"] = url
        recorded.write_text(json.dumps(document))
        outcome = home.rerun_json("--on-divergence", "live", "last")
    assert outcome["exit_code"] == 3
    assert (outcome["same_bytes"], outcome["live"], outcome["program_exit"]) == (2, 1, 0)
    assert len(outcome["divergences"]) == 1


WAITING = AGENT.replace(
    'print(ask("third"))',
    """if os.environ.get("AGENT_WAITS"):
    import signal
    print("waiting", flush=True)
    signal.pause()
print(ask("third"))""",
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_rerun_leaves_nothing(home: Home, number: int, code: int) -> None:
    home.record(WAITING)
    before = home.record_ids()
    command = [sys.executable, "-m", "unspool", "rerun", "--store", str(home.store), "last"]
    env = environment(None, AGENT_WAITS="1")
    with subprocess.Popen(
        command, env=env, cwd=home.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        while b"waiting" not in process.stdout.readline():
            pass
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert b"nothing is proved" in err
    assert home.rerun_folders() == []
    if number == signal.SIGINT:  # the program ended itself, and its recording with it
        assert home.record_ids() == before


PARENT = """\
import os, signal, subprocess, sys
from openai import OpenAI

if len(sys.argv) > 1:
    client = OpenAI(max_retries=0)
    text = os.environ.get("CHILD_ASKS", "as ever")
    client.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
else:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    if os.environ.get("CHILD_ASKS"):
        signal.pause()
    child.wait()
"""


def test_a_divergence_in_a_child_ends_every_process(home: Home) -> None:
    home.record(PARENT)
    assert home.rerun("last").code == 0
    outcome = home.rerun_json("last", CHILD_ASKS="something new")
    assert outcome["exit_code"] == 3
    [divergence] = outcome["divergences"]
    assert divergence["at"].startswith("agent.py:7")
    left = [one.metadata for one in recordings(home.store) if one.metadata.status == "recording"]
    assert left == []


def test_another_version_of_a_library_is_listed(home: Home) -> None:
    home.record(AGENT)
    [source] = home.record_ids()
    path = home.store / "records" / source / "metadata.json"
    document = json.loads(path.read_text())
    assert document["packages"]["openai"]
    document["packages"]["openai"] = "0.0.1"
    document["python"] = "3.0.1"
    path.write_text(json.dumps(document))
    versions = {name: old for name, old, _ in home.rerun_json("last")["surroundings"]["versions"]}
    assert versions["openai"] == "0.0.1"
    assert versions["Python"] == "3.0.1"


def test_a_python_that_would_not_be_entered_is_not_started(home: Home) -> None:
    home.record(AGENT)
    result = home.rerun("last", "--", sys.executable, "-I", "agent.py")
    assert result.code == 2
    assert result.stdout == b""
    assert os.path.basename(sys.executable) in result.stderr.decode()
