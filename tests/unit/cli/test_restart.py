"""What a recorded command is started with again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from unspool.capture.environment import BOOT_DIR
from unspool.cli.restart import PLACEHOLDER, restart
from unspool.errors import UsageError
from unspool.events import RecordMetadata
from unspool.store import host_name


def recorded(folder: Path, **fields: Any) -> RecordMetadata:
    fields = {"launched": [sys.executable, "-c", "pass"], "launched_in": str(folder), "host": host_name(), **fields}
    fields.setdefault("env", {"PATH": os.environ["PATH"]})
    return RecordMetadata(record_id="1-x", pid=1, intent="", **fields)


def test_the_command_that_run_was_given_is_started_in_its_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    how = restart(recorded(tmp_path, command=["other"], cwd=str(inner)))
    assert how.argv == [sys.executable, "-c", "pass"]
    assert how.cwd == how.environ["PWD"] == str(tmp_path)


def test_without_one_the_command_of_the_process_is_started_where_it_ran(tmp_path: Path) -> None:
    how = restart(recorded(tmp_path, launched=None, launched_in=None, command=[sys.executable, "x"], cwd=str(tmp_path)))
    assert how.argv == [sys.executable, "x"]
    assert how.cwd == str(tmp_path)


def test_listed_values_are_as_recorded_and_what_was_not_set_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "now")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("MY_OWN", "now")
    environ = restart(recorded(tmp_path, env={"PATH": os.environ["PATH"], "LANG": "then"})).environ
    assert environ["LANG"] == "then"
    assert "NO_COLOR" not in environ
    assert environ["MY_OWN"] == "now"


def test_missing_names_are_listed_and_credentials_get_a_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("SOME_TOKEN", "of-now")
    names = ["OPENAI_API_KEY", "AGENT_MODE_X", "SOME_TOKEN", "SHLVL", "SSH_CONNECTION", "UNSPOOL_RUN"]
    how = restart(recorded(tmp_path, env_names=names))
    assert how.environ["OPENAI_API_KEY"] == PLACEHOLDER
    assert how.environ["SOME_TOKEN"] == "of-now"
    assert how.surroundings.placeholders == ["OPENAI_API_KEY"]
    assert how.surroundings.missing == ["AGENT_MODE_X"]


def test_credentials_in_words_are_those_of_now_and_other_variables_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret-of-now")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    words = [sys.executable, "--token=${MY_TOKEN}", "${NO_SUCH_KEY}", "${HOME}"]
    how = restart(recorded(tmp_path, launched=words))
    assert how.argv == [sys.executable, "--token=secret-of-now", PLACEHOLDER, "${HOME}"]
    assert how.surroundings.placeholders == ["NO_SUCH_KEY"]


def test_the_folder_that_entered_the_recorded_process_is_not_handed_on(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{BOOT_DIR}{os.pathsep}/my/own"}
    assert restart(recorded(tmp_path, env=env)).environ["PYTHONPATH"] == "/my/own"
    env["PYTHONPATH"] = BOOT_DIR
    assert "PYTHONPATH" not in restart(recorded(tmp_path, env=env)).environ


def test_another_host_keeps_its_own_path(tmp_path: Path) -> None:
    how = restart(recorded(tmp_path, host="elsewhere", env={"PATH": "/nowhere"}))
    assert how.environ["PATH"] == os.environ["PATH"]
    assert any("elsewhere" in note for note in how.surroundings.notes)


def test_redacted_values_are_taken_from_now_or_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": "https://REDACTED@host/v1"}
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:pw@host/v1")
    assert restart(recorded(tmp_path, env=env)).environ["OPENAI_BASE_URL"] == "https://me:pw@host/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert restart(recorded(tmp_path, env=env)).surroundings.missing == ["OPENAI_BASE_URL"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"launched_in": "/no/such/folder"}, "/no/such/folder"),
        ({"launched": ["/no/such/program"]}, "/no/such/program"),
        ({"launched": [sys.executable, "gone.py"]}, "gone.py"),
        ({"launched": None, "command": None}, "does not say what command"),
    ],
)
def test_what_is_gone_is_named(tmp_path: Path, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        restart(recorded(tmp_path, **fields))


def test_another_command_can_be_given(tmp_path: Path) -> None:
    how = restart(recorded(tmp_path, launched=["/no/such/program"]), [sys.executable, "fixed"])
    assert how.argv == [sys.executable, "fixed"]


@pytest.mark.parametrize("argv", [["nosuch-program"], [sys.executable, "nosuch.py"]])
def test_a_given_command_that_is_not_there_is_not_said_to_be_the_recorded_one(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        restart(recorded(tmp_path), argv)
    assert argv[-1] in str(caught.value)
    assert "Nothing was started" in str(caught.value)
    assert "any more" not in str(caught.value)
