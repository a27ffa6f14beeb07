"""The budget of `unspool run --budget` is kept with the recording, and is what its context is measured by later."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unspool.cli.ctx_view import window_of
from unspool.cli.limit_options import budget_of
from unspool.context.reading import read_run
from unspool.events import RecordMetadata
from unspool.recording.manager import RecordManager
from unspool.recording.reader import RecordReader
from unspool.store import Store
from unspool.tui.agents import AgentWatch
from unspool.tui.windows import window_of as window_at

if "made_contexts" not in sys.modules:  # importable under pytest's importlib mode
    _spec = importlib.util.spec_from_file_location(
        "made_contexts", Path(__file__).parents[1] / "context" / "made_contexts.py"
    )
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["made_contexts"] = _module
    _spec.loader.exec_module(_module)

from made_contexts import Talk

LONG = " ".join(f"word{number}" for number in range(200))
NESTED = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])"], check=True)
"""


def grown(store: Store, budget: Any = None, *, model: str = "gpt-5") -> str:
    """A recording of a conversation, of a run with this budget."""
    talk = Talk(store.records, store.next_pid(), model=model).user("Find the bug.")
    for number in range(8):
        talk.use("search", f"{LONG} {number}", say=f"Looking at {number}", given={"of": str(number)})
    talk.close()
    name = talk.recorder.record_id
    file = store.records / name / "metadata.json"
    document = json.loads(file.read_text())
    if budget is not None:
        document["extra"] = {"budget": budget}
    file.write_text(json.dumps(document))
    return name


def text_of(result: Any) -> str:
    assert result.exit_code == 0, result.output
    text: str = result.stdout
    return text


def test_growth_takes_the_budget_of_the_run(invoke, store):
    grown(store, 20_000)
    text = text_of(invoke("growth", "1"))
    assert "of 20,000 (" in text
    assert "the budget the run was given; the model's window is 400,000" in text
    found = json.loads(text_of(invoke("growth", "1", "--json")))
    assert found["context_window"] == 400_000
    assert found["prediction"]["context_budget"] == 20_000


def test_an_explicit_budget_wins(invoke, store):
    grown(store, 20_000)
    text = text_of(invoke("growth", "1", "--budget", "50k"))
    assert "of 50,000 (" in text
    assert "the budget you gave" in text


def test_a_budget_gives_a_forecast_where_the_window_is_not_known(invoke, store):
    grown(store, model="a-model-that-nobody-knows")
    assert "is not known" in text_of(invoke("growth", "1"))
    grown(store, 20_000, model="a-model-that-nobody-knows")
    text = text_of(invoke("growth", "2"))
    assert "full after" in text
    assert "is not known" not in text


def test_ctx_measures_by_the_budget_and_says_so(invoke, store):
    grown(store, 20_000)
    text = text_of(invoke("ctx", "1"))
    assert "of 20,000 (" in text
    assert "the budget of the run; the window is 400,000" in " ".join(text.split())
    found = json.loads(text_of(invoke("ctx", "1", "--json")))
    assert (found["budget"], found["context_window"]) == (20_000, 400_000)


def test_top_measures_by_the_budget(store):
    name = grown(store, 20_000)
    metadata = RecordManager(store.records).describe(store.records / name)
    assert metadata is not None
    watch = AgentWatch(store, metadata)
    for event in watch.reader.events():
        watch.see(event)
    assert watch.agent().growth.context_budget == 20_000
    with RecordReader(store.records / name) as reader:
        assert window_at(reader, reader.last_seq) == 20_000


@pytest.mark.parametrize("odd", [0, -1, True, "20000", 2.5, 10**30, [1], None])
def test_what_is_no_budget_counts_for_nothing(invoke, store, odd):
    metadata = RecordMetadata(record_id="1-x", pid=1, intent="", extra={"budget": odd})
    assert budget_of(metadata) is None
    if isinstance(odd, str):
        name = grown(store, odd)
        with RecordReader(store.records / name) as reader:
            assert window_of(read_run(reader).calls[-1]) == 400_000
        assert "of 400,000 (" in text_of(invoke("growth", "1"))


def unspool(store: Path, *args: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("UNSPOOL")}
    done = subprocess.run(
        [sys.executable, "-m", "unspool", args[0], "--store", store, *args[1:]],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_run_keeps_its_budget_in_every_process_and_in_reruns(tmp_path, store):
    script = tmp_path / "agent.py"
    script.write_text(NESTED)
    unspool(store.path, "run", "--quiet", "--budget", "120k", "--", sys.executable, str(script))
    first = RecordManager(store.records).list_records()
    assert len(first) == 2
    assert [budget_of(one) for one in first] == [120_000, 120_000]
    unspool(store.path, "rerun", "--keep", "last")
    assert [budget_of(one) for one in RecordManager(store.records).list_records()] == [120_000] * 4


def test_a_run_without_a_budget_records_none(tmp_path, store):
    script = tmp_path / "agent.py"
    script.write_text(NESTED)
    unspool(store.path, "run", "--quiet", "--max-time", "5m", "--", sys.executable, str(script))
    found = RecordManager(store.records).list_records()
    assert [("budget" in one.extra, budget_of(one)) for one in found] == [(False, None)] * 2


def test_the_web_view_draws_the_budget(store):
    pytest.importorskip("starlette")
    from starlette.testclient import TestClient

    from unspool.cli.prices import Prices
    from unspool.web.app import create_app
    from unspool.web.guard import Door

    name = grown(store, 5_000)
    far = grown(store, 300_000)
    plain = grown(store)
    browser = TestClient(create_app(store, Prices(), Door("127.0.0.1", 4848, "t")), base_url="http://127.0.0.1:4848")
    browser.get("/", params={"token": "t"})
    page = browser.get(f"/run/{name}/context").text
    assert "of the budget of 5,000" in page
    assert '<line class="budget"' in page
    assert ">budget 5.0k</text>" in page
    with RecordReader(store.records / name) as reader:
        last = read_run(reader).calls[-1].seq_num
    assert "of the budget of 5,000" in browser.get(f"/run/{name}/step/{last}/context").text
    assert "↑ budget 300" in browser.get(f"/run/{far}/context").text
    assert "budget" not in browser.get(f"/run/{plain}/context").text.partition("<main")[2].partition("</main")[0]
