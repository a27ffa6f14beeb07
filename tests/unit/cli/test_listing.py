"""Totals, prices, amounts, tables, and which recordings belong together."""

from __future__ import annotations

import pytest
from cli_events import answer, model_call, snapshot, state, syscall, tool
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from unspool.cli import amounts
from unspool.cli.listing import tally
from unspool.cli.prices import call_cost
from unspool.cli.runs import descendants, fold_workers, runs
from unspool.cli.table import Column, clip, display_width, format_table
from unspool.events import ErrorData
from unspool.recording.address import newest_first
from unspool.recording.metadata import write_metadata


def totals(store):
    return tally(store, newest_first(store))


# --- totals ----------------------------------------------------------------------------------------------------------


def test_sums_of_calls_tools_tokens_and_errors(store, make):
    make(state(), *model_call(1), tool(), tool(err="boom"), *model_call(2), syscall("Exec", "/dev/proc/git"))
    make(*model_call(1))
    found = totals(store)
    assert (found.calls, found.steps, found.tools, found.errors, found.events) == (3, 3, 2, 1, 13)
    assert (found.input_tokens, found.output_tokens, found.tokens) == (3000, 300, 3300)


def test_a_call_in_flight_counts_and_a_retry_is_no_step(store, make):
    make(*model_call(1), snapshot(2, retry=True))
    assert (totals(store).calls, totals(store).steps) == (2, 1)


def test_recordings_that_number_no_calls_count_their_answers(store, make):
    make(snapshot(), answer(), snapshot(), answer())
    assert totals(store).calls == 2


def test_without_calls_nothing_was_used(store, make):
    make(tool())
    assert (totals(store).tokens, totals(store).cost) == (0, 0.0)


def test_unknown_tokens_are_not_zero(store, make):
    make(*model_call(1, read=None, written=None))
    found = totals(store)
    assert (found.tokens, found.cost, found.tokens_unknown) == (None, None, 1)


def test_a_sum_that_lacks_a_call_says_so(store, make):
    make(*model_call(1), *model_call(2, read=None, written=None))
    found = totals(store)
    assert (found.tokens, found.tokens_unknown, found.cost_unknown) == (1100, 1, 1)


def test_a_failed_call_without_usage_costs_nothing(store, make):
    make(*model_call(1, read=None, written=None, error=ErrorData("rate_limit")))
    found = totals(store)
    assert (found.tokens, found.cost, found.tokens_unknown) == (0, 0.0, 0)


def test_cost_is_that_of_the_vendor_and_model_with_cached_tokens_as_cached(store, make):
    make(*model_call(1, read=1_000_000, written=100_000, cached_tokens=500_000))
    # gpt-4.1-mini: $0.40 a million in, $0.10 cached, $1.60 out
    assert totals(store).cost == pytest.approx(0.5 * 0.40 + 0.5 * 0.10 + 0.1 * 1.60)


def test_a_model_without_a_price_is_unknown(store, make):
    make(*model_call(1, model="my-own-7b"))
    found = totals(store)
    assert (found.cost, found.cost_unknown, found.tokens) == (None, 1, 1100)


@pytest.mark.parametrize(
    ("vendor", "model"), [("ollama", "llama3"), ("nobody", "gpt-4o"), ("openai", "no-such-model"), ("github", "gpt-4o")]
)
def test_no_price_is_none(vendor, model):
    assert call_cost(vendor, model, input_tokens=10, output_tokens=10) is None


@pytest.mark.parametrize(
    ("vendor", "model"),
    [
        ("openai", "gpt-4.1-mini-2025-04-14"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("google", "gemini-2.5-flash"),
    ],
)
def test_exact_versions_have_prices(vendor, model):
    cost = call_cost(vendor, model, input_tokens=1000, output_tokens=100)
    assert cost is not None
    assert cost > 0


def test_counts_that_contradict_each_other_have_no_price():
    assert call_cost("openai", "gpt-4o", input_tokens=1, output_tokens=1, cached_tokens=100) is None


def test_a_recording_that_cannot_be_read_adds_nothing(store, make):
    recorder = make(*model_call(1))
    make(*model_call(1))
    records = list(newest_first(store))
    (store.records / recorder.record_id / "events.jsonl").unlink()
    assert tally(store, records).calls == 1


# --- amounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.2, "0s"), (59.9, "59s"), (60, "1m"), (3600, "1h"), (86400 * 3, "3d"), (86400 * 60, "8w")],
)
def test_age(seconds, text):
    assert amounts.age(seconds) == text


@pytest.mark.parametrize(("n", "text"), [(None, "?"), (0, "0"), (999, "999"), (48_321, "48.3k"), (1_234_567, "1.2M")])
def test_tokens(n, text):
    assert amounts.tokens(n) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(None, "?"), (0.0, "$0"), (0.00041, "$0.0004"), (3.14159, "$3.14"), (1234.5, "$1,234")]
)
def test_cost(usd, text):
    assert amounts.cost(usd) == text


def test_a_lower_bound_is_marked():
    assert amounts.cost(0.5, more=True) == "$0.5000+"
    assert amounts.tokens(5, more=True) == "5+"


@given(st.integers(min_value=0, max_value=10**18))
def test_sizes_fit_a_column(size):
    assert len(amounts.bytes_text(size)) <= 12


# --- tables ----------------------------------------------------------------------------------------------------------

COLUMNS = (
    Column("ID"),
    Column("N", "right", gives_way=2),
    Column("M", "right", gives_way=1),
    Column("TEXT", flexible=True, least=10),
)


def test_a_table_without_a_screen_cuts_nothing():
    text = format_table(COLUMNS, [["id-1", "5", "66", "x" * 500]], None)
    assert text == f"ID    N   M  TEXT\nid-1  5  66  {'x' * 500}"


def test_a_narrow_screen_cuts_text_then_leaves_columns_out_and_never_the_id():
    rows = [["a-very-long-record-id", "5", "66", "x" * 500]]
    wide = format_table(COLUMNS, rows, 60)
    assert {display_width(line) for line in wide.splitlines()[1:]} == {60}
    assert "…" in wide
    narrow = format_table(COLUMNS, rows, 38)
    assert "N" not in narrow.splitlines()[0]
    assert "66" in narrow
    assert "a-very-long-record-id" in format_table(COLUMNS, rows, 20)


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_clipped_text_fits(text, columns):
    assert display_width(clip(text, columns)) <= columns


def test_wide_characters_take_two_columns():
    assert display_width("日本") == 4
    assert clip("日本語", 5) == "日本…"


# --- which belong together -------------------------------------------------------------------------------------------


def test_workers_are_folded_into_the_agent_that_started_them(store, make):
    root = make(intent="root").record_id
    worker = make(parent=root, role="worker").record_id
    deeper = make(parent=worker, role="worker").record_id
    agent = make(parent=root, intent="sub").record_id
    other = make(parent=agent, role="worker").record_id
    rows = {
        row.agent.record_id: {one.record_id for one in row.workers} for row in fold_workers(store, newest_first(store))
    }
    assert rows == {agent: {other}, root: {worker, deeper}}


def test_a_worker_whose_parent_is_gone_has_a_row_of_its_own(store, make):
    make(parent="1-20200101T000000-gone", role="worker")
    assert [row.workers for row in fold_workers(store, newest_first(store))] == [[]]


def test_a_worker_that_is_older_than_its_parent_does_not_disappear(store, make):
    parent, worker = make(), make(role="worker")
    rows = list(fold_workers(store, list(newest_first(store))[::-1]))
    assert {row.agent.record_id for row in rows} == {parent.record_id, worker.record_id}


def test_a_run_is_a_root_with_all_its_descendants_and_no_fork(store, make):
    root = make().record_id
    child = make(parent=root).record_id
    grandchild = make(parent=child, role="worker").record_id
    fork = make(parent=root, forked_at=2).record_id
    assert [run.root.record_id for run in runs(store)] == [fork, root]
    assert {one.record_id for one in runs(store)[1].members} == {child, grandchild}
    assert {one.record_id for one in descendants(store, root)} == {child, grandchild}


def test_a_circle_of_parents_ends(store, make):
    first = make()
    second = make(parent=first.record_id)
    write_metadata(first.record_dir, structs.replace(first.metadata, parent=second.record_id))
    assert sum(len(run.records) for run in runs(store)) == 2
    assert len(list(fold_workers(store, newest_first(store)))) == 2
    assert {one.record_id for one in descendants(store, first.record_id)} == {second.record_id}
