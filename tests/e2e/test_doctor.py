"""`unspool doctor` from outside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from capture_harness import Result, environment, run

from unspool.demo.server import ModelServer

AGENT = """\
import datetime, time
from openai import OpenAI

client = OpenAI(max_retries=0)
started = time.perf_counter()


def ask(text):
    answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


print(ask(f"today is {datetime.datetime.now():%Y-%m-%d %H:%M:%S.%f}"))
"""


def doctor(folder: Path, code: str, *options: str) -> Result:
    script = folder / "agent.py"
    script.write_text(code)
    with ModelServer() as server:
        command = [sys.executable, "-m", "unspool", "doctor", "--store", folder / "store", *options, "--"]
        env = environment(None, OPENAI_BASE_URL=f"{server.url}/v1", NO_COLOR="1")
        return run([*command, sys.executable, "agent.py"], env, cwd=folder)


def test_a_reproducible_agent_is_told_so_with_the_noise_that_is_pinned(tmp_path: Path) -> None:
    result = doctor(tmp_path, AGENT)
    report = result.stderr.decode()
    assert result.code == 0, report
    assert "reproducible: 1 of 1 requests byte-identical" in report
    assert f"datetime.now at {tmp_path / 'agent.py'}:13" in report
    assert len(list((tmp_path / "store" / "records").iterdir())) == 1


def test_a_measured_duration_in_a_prompt_is_found_with_its_line(tmp_path: Path) -> None:
    result = doctor(tmp_path, AGENT + 'ask(f"that took {time.perf_counter() - started} s")\n', "--json")
    document = json.loads(result.stdout)
    assert result.code == 1
    assert not document["reproducible"]
    [finding] = [one for one in document["findings"] if one["breaks"]]
    assert finding["kind"] == "divergence"
    assert finding["at"] == "agent.py:9 ask"
    assert any(text.startswith("number: ") for text in finding["why"])
    [divergence] = document["outcome"]["divergences"]
    assert "agent.py:14 <module>" in divergence["stack"]


def test_output_that_differs_is_shown(tmp_path: Path) -> None:
    result = doctor(tmp_path, AGENT + "print(time.perf_counter())\n")
    report = result.stderr.decode()
    assert result.code == 1
    assert "standard output differs" in report
    assert "number: " in report


def test_without_pins_it_says_which_of_them_matter(tmp_path: Path) -> None:
    document = json.loads(doctor(tmp_path, AGENT, "--json", "--no-pin").stdout)
    [finding] = [one for one in document["findings"] if one["breaks"]]
    assert any(text.startswith("clock: ") and "agent.py:13" in text for text in finding["why"])


def test_a_command_without_python_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unspool", "doctor", "--store", tmp_path / "store", "--", "true"]
    result = run(command, environment(None), cwd=tmp_path)
    assert result.code == 2
    assert "nothing was recorded" in result.stderr.decode()


SETS = AGENT + 'ask(" ".join({"ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"}))\n'


def test_the_order_of_sets_is_pinned_and_said(tmp_path: Path) -> None:
    result = doctor(tmp_path, SETS, "--json")
    document = json.loads(result.stdout)
    assert document["reproducible"], result.stderr.decode()
    assert 0 < int(document["hash_seed"]) < 2**32
    report = doctor(tmp_path, SETS).stderr.decode()
    assert "the order of sets of strings (PYTHONHASHSEED=" in report


def test_without_pins_another_order_of_words_is_named_for_what_it_is(tmp_path: Path) -> None:
    """Ten words come in the same order twice once in three million times."""
    document = json.loads(
        doctor(
            tmp_path, SETS.replace("datetime.datetime.now()", "datetime.date(2026, 1, 2)"), "--no-pin", "--json"
        ).stdout
    )
    [finding] = [one for one in document["findings"] if one["breaks"]]
    assert any(text.startswith("order: ") and "hash seed" in text for text in finding["why"])
    assert document["hash_seed"] is None
