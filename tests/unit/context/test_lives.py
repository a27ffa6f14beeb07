"""What became of each block: who used it, what it cost, when it should have gone, and the run without it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from made_contexts import Talk, tool

from unspool.context.advice import advise
from unspool.context.breaks import find_breaks
from unspool.context.calls import Block, Call, Run
from unspool.context.charges import Charges
from unspool.context.lives import Life, Lives, live
from unspool.context.reading import read_run
from unspool.context.whatif import find_blocks, leaked_lives, without_blocks
from unspool.recording.reader import RecordReader
from unspool.trace.rates import Rates

RATES = Rates(input=1e-6, output=4e-6, cached=1e-7, cache_write=2e-6)


def rates(_call: Call) -> Rates:
    return RATES


def log(lines: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return "\n".join(f"{n:04d} INFO charge ch_{rng.getrandbits(40):010x} captured" for n in range(lines))


def read(reader: RecordReader, *, at: int = -1) -> tuple[Run, Lives]:
    run = read_run(reader)
    found = live(run, run.calls[at], lambda call: reader.response_of(call.answer) if call.answer else None, rates)
    return run, found


def of(found: Lives, key: str) -> Life:
    return next(life for life in found.lives if life.block.key == key)


def test_a_result_nobody_uses_goes_after_three_outputs(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.use("profile", "zebra quagga okapi " * 30, say="First.")
    for number in range(5):
        talk.use("search", f"result {number}", say=f"Searching {number}.", given={"of": str(number)})
    _, found = read(talk.ask("There is none.").close())
    life = of(found, "#3")
    assert (life.state, life.fate) == ("leaked", "unused")
    # It came with the second call; the answers of calls 2, 3 and 4 passed it by.
    assert life.gone_at == 4
    assert life.charge.sends == 6
    assert life.wasted.sends == 3


def test_one_line_of_a_long_result_was_used(tmp_path: Path) -> None:
    text = log(300).replace("0123 INFO", "0123 WARN duplicate")
    charge = next(line.split()[4] for line in text.splitlines() if line.startswith("0123"))
    talk = Talk(tmp_path).user("Which charge is wrong?")
    talk.use("payments", text, say="I read the payments.")
    talk.use("notes", "nothing", say=f"{charge} looks wrong.")
    _, found = read(talk.ask(f"The charge {charge} was made twice.").close())
    life = of(found, "#3")
    assert life.fate == "mostly unused"
    assert life.part is not None
    assert life.part.lines == [124]
    assert charge in life.part.text
    assert len(life.part.text) < 200
    assert 0 < life.wasted.tokens < life.charge.tokens


def test_a_result_that_is_used_all_over_is_kept_whole(tmp_path: Path) -> None:
    text = log(40)
    ids = [line.split()[3] for line in text.splitlines()]
    talk = Talk(tmp_path).user("List them.")
    talk.use("payments", text)
    _, found = read(talk.ask("All of these: " + ", ".join(ids)).close())
    assert of(found, "#3").part is None
    assert of(found, "#3").fate is None


def test_a_repeated_call_supersedes_its_first_result(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Wait for the build.")
    talk.use("status", "running, 10 of 80 targets", given={"of": "build"})
    talk.use("status", "running, 60 of 80 targets", given={"of": "build"})
    _, found = read(talk.ask("60 of 80.").close())
    life = of(found, "#3")
    assert (life.fate, life.gone_at) == ("superseded", 2)
    assert life.replaced_by is of(found, "#5").block
    assert "#5" in life.reason


def test_a_result_that_had_left_before_its_like_came_did_not_leak(tmp_path: Path) -> None:
    """A history that begins anew: no prompt holds both."""
    talk = Talk(tmp_path).user("Find the bug.").use("read", "alpha beta gamma " * 30, say="I read.")
    talk.ask("Nothing there.")
    talk.messages = talk.messages[:1]
    talk.use("read", "alpha beta gamma " * 30, say="Once more.").ask("Nothing there either.")
    run, found = read(talk.close())
    first = next(life for life in found.lives if life.block.is_tool_result)
    assert (first.leak, first.fate, first.gone_at) == (None, None, None)
    assert first.state == "cold"
    assert "had left the context before" in first.reason
    assert without_blocks(run, found, leaked_lives(found), 1.0, rates).dropped == []


def test_evidence_names_the_call_whose_answer_refers_to_it(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.use("grep", "src/auth/tokens.py:88: refresh_token = None", say="Looking.")
    talk.use("other", "fine", say="It is in src/auth/tokens.py:88.")
    _, found = read(talk.ask("Done.").close())
    last = of(found, "#3").uses[-1]
    assert last.call == 1
    assert "src/auth/tokens.py" in last.quote


def test_the_last_answer_counts_though_nobody_sent_it_again(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("What is the rate?")
    talk.use("rate", "the rate is 48213.77 today")
    _, found = read(talk.ask("It is 48213.77.").close())
    assert of(found, "#3").uses[-1].call == 1


def test_an_earlier_call_is_judged_by_what_was_known_then(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("What is the rate?")
    talk.use("rate", "the rate is 48213.77 today").use("noop", "fine", say="Hm.", given={})
    talk.ask("It is 48213.77.")
    _, found = read(talk.close(), at=1)
    assert of(found, "#3").uses == []


# --- costs -----------------------------------------------------------------------------------------------------------


def plain_charge(run: Run, block: Block) -> tuple[float, float, float]:
    """Tokens, cached tokens and cost of a block, call by call."""
    tokens = cached = usd = 0.0
    for call in run.calls:
        if not call.is_paid or block not in call.blocks:
            continue
        assert call.llm is not None
        at = float(call.unseen)
        for one in call.blocks:
            size = one.weight * call.factor
            if one is block:
                read = min(max((call.llm.cached_tokens or 0) - at, 0.0), size)
                tokens, cached = tokens + size, cached + read
                usd += read * RATES.cached + (size - read) * RATES.input
            at += size
    return tokens, cached, usd


def edited_talk(folder: Path) -> Talk:
    talk = Talk(folder)
    talk.tools = [tool("search")]
    talk.user("Find the bug.")
    for number in range(9):
        if number == 3:
            talk.messages[2] = {**talk.messages[2], "content": "[cleared]"}
        if number == 5:
            del talk.messages[3:5]
        if number == 7:
            talk.system = "You are another agent."
        talk.use("search", log(20, number), say=f"Looking at {number}.", given={"of": str(number)})
    return talk.ask("Done.")


def test_charges_are_those_of_adding_up_call_by_call(tmp_path: Path) -> None:
    run, found = read(edited_talk(tmp_path).close())
    assert len(run.conversations) == 1
    for life in found.lives:
        tokens, cached, usd = plain_charge(run, life.block)
        assert life.charge.tokens == pytest.approx(tokens, rel=1e-6, abs=1e-6)
        assert life.charge.cached == pytest.approx(cached, rel=1e-6, abs=1e-6)
        assert life.charge.usd == pytest.approx(usd, rel=1e-6, abs=1e-12)


def test_all_charges_sum_to_what_the_calls_paid(tmp_path: Path) -> None:
    run, found = read(edited_talk(tmp_path).close())
    paid = sum(call.tokens - call.unseen for call in run.calls)
    assert sum(life.charge.tokens for life in found.lives) == pytest.approx(paid)


def test_charges_without_prices_have_tokens_and_no_cost(tmp_path: Path) -> None:
    run = read_run(edited_talk(tmp_path).close())
    block = run.calls[-1].messages[-1]
    [charge] = Charges(run.calls, None).since([(block, 0)]).values()
    assert charge.tokens > 0
    assert charge.cost is None


# --- without ---------------------------------------------------------------------------------------------------------


def test_the_run_without_what_leaked(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.use("profile", "zebra quagga okapi " * 300, say="First.")
    for number in range(5):
        talk.use("search", f"result {number} of {number} " * 60, say=f"Searching {number}.", given={"of": str(number)})
    run, found = read(talk.ask("There is none.").close())
    result = without_blocks(run, found, leaked_lives(found), 1.0, rates)
    big = result.dropped[0]
    assert big.life.block.key == "#3"
    assert big.text.startswith("[left out: about ")
    assert result.saved_tokens == pytest.approx(sum(one.saved.tokens for one in result.dropped), abs=1)
    assert result.tokens == sum(call.tokens for call in run.calls)
    assert result.saved_usd is not None
    assert result.anew_usd > 0  # the provider's cache held what followed it


def test_blocks_are_found_by_number_tool_and_call(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.tools = [tool("search")]
    talk.use("search", "nothing")
    _, found = read(talk.ask("Hm.").close())
    result = of(found, "#3").block
    assert result.message is not None
    assert result.message.tool_call_id is not None
    for name in ("3", "#3", "tool:search", "search", result.message.tool_call_id):
        assert [life.block for life in find_blocks(found, name)] == [result]
    assert find_blocks(found, "def:search")[0].block.category == "tools"
    assert find_blocks(found, "#99") == []
    assert find_blocks(found, "#" + "9" * 400) == []


def test_a_block_in_use_is_said_to_be(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("What is the rate?")
    talk.use("rate", "the rate is 48213.77 today").use("noop", "fine", say="Hm.")
    run, found = read(talk.ask("It is 48213.77.").close())
    [one] = without_blocks(run, found, [of(found, "#3")], None, rates).dropped
    assert one.at == 2
    assert one.is_used


# --- breaks and advice -----------------------------------------------------------------------------------------------


def breaks_of(talk: Talk) -> list[tuple[int, str, str]]:
    run = read_run(talk.close())
    return [(one.call.position, one.section, one.cause) for one in find_breaks(run, rates)]


def test_a_run_that_only_grows_breaks_nothing(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    for number in range(4):
        talk.use("search", log(5, number), say="next")
    assert breaks_of(talk) == []


def test_a_clock_in_the_system_prompt_is_the_cause(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    for number in range(3):
        talk.system = f"You are an agent. It is 2026-05-01 10:2{number}:33. " + "Be brief. " * 50
        talk.use("search", log(30, number), say="next")
    run = read_run(talk.close())
    found = find_breaks(run, rates)
    assert [one.call.position for one in found] == [1, 2]
    assert all("a clock in the system prompt" in one.cause for one in found)
    assert "10:20" in found[0].before_text
    assert "10:21" in found[0].after_text
    # What the first call sent behind the clock: the rest of the prompt and the question.
    assert found[0].repaid == pytest.approx(run.calls[0].tokens - run.calls[0].unseen, rel=0.2)
    assert found[1].usd is not None
    assert found[1].usd > found[0].usd > 0


def test_tools_in_another_order_are_the_cause(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.tools = [tool("search"), tool("write")]
    talk.use("search", log(5))
    talk.tools = talk.tools[::-1]
    talk.ask()
    assert breaks_of(talk) == [(1, "tools", "the same tools in another order: sort them")]


def test_an_edited_history_is_the_cause(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.").use("search", log(5)).use("search", log(6), given={"of": "b"})
    talk.messages[2] = {**talk.messages[2], "content": "[cleared]"}
    [(position, section, cause)] = breaks_of(talk.ask())
    assert (position, section) == (2, "messages")
    assert "history was edited: #3" in cause


def test_another_model_has_another_cache(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.").use("search", log(5))
    talk.model = "gpt-4.1"
    [(_, section, cause)] = breaks_of(talk.ask())
    assert section == "model"
    assert "gpt-4.1" in cause


def test_what_breaks_the_cache_for_more_than_it_saves_is_said_to(tmp_path: Path) -> None:
    """A late result in a long cached prompt: most of what is paid again stood behind it."""
    talk = Talk(tmp_path).user("Find it.").use("profile", "zebra quagga okapi " * 30, say="First.")
    for number in range(4):
        talk.use("search", f"finding{number} " * 400, say=f"I see finding{number}.", given={"of": str(number)})
    run, found = read(talk.ask("There is none.").close())
    result = without_blocks(run, found, [of(found, "#3")], 1.0, rates)
    assert result.saved_usd is not None
    assert result.anew_usd > result.saved_usd
    assert result.is_dearer
    assert result.never_usd is not None
    assert result.never_usd > result.saved_usd
    [before] = [one for one in advise(found, []) if one.blocks == ["#3"]]
    [net] = [one for one in advise(found, [], run, rates) if one.blocks == ["#3"]]
    assert before.usd is not None
    assert net.usd is not None
    assert net.usd == pytest.approx(before.usd - result.anew_usd)
    assert net.usd < 0 < before.usd
    assert net.tokens == before.tokens


def test_advice_says_what_it_would_have_saved(tmp_path: Path) -> None:
    talk = Talk(tmp_path).user("Find the bug.")
    talk.tools = [tool("search"), tool("profile"), tool("fly", "Flies somewhere. " * 60)]
    talk.use("profile", "zebra quagga okapi " * 300, say="First.")
    for number in range(5):
        talk.system = f"You are an agent, request {number}. Be brief."
        talk.use("search", f"result {number}", say=f"Searching {number}.", given={"of": str(number)})
    run, found = read(talk.ask("There is none.").close())
    advice = advise(found, find_breaks(run, rates))
    kinds = [one.kind for one in advice]
    assert {"drop", "tools", "prefix"} <= set(kinds)
    drop = next(one for one in advice if one.kind == "drop" and "#3" in one.blocks)
    assert drop.tokens == round(of(found, "#3").wasted.tokens)
    assert drop.usd == pytest.approx(of(found, "#3").wasted.usd)
    unused = next(one for one in advice if one.kind == "tools")
    assert unused.blocks == ["def:fly"]
    assert [one.tokens for one in advice if not one.is_bound] == sorted(
        (one.tokens for one in advice if not one.is_bound), reverse=True
    )
