"""Runs a recorded agent again under given rules, as the supervisor does, without judging it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from capture_harness import Recording, Result, environment, run

from unspool.capture.environment import variables
from unspool.capture.process import Lineage
from unspool.serving.journal import Entry, read_journal
from unspool.serving.offers import make_plan, open_tree
from unspool.serving.plan import Offer, write_plan
from unspool.store import Store, new_hex_id


class Rerun(NamedTuple):
    """What came of a rerun."""

    result: Result
    journal: list[Entry]
    offers: list[Offer]
    recordings: list[Recording]

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.journal if entry.kind == kind]


def root_of(found: list[Recording]) -> Recording:
    [root] = [one for one in found if one.metadata.parent is None]
    return root


def rerun(
    store: Path,
    argv: list[str | Path],
    root: Recording,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    **rules: object,
) -> Rerun:
    """Run `argv` served from a recording and those of its children, as the supervisor does."""
    before = {path.name for path in (store / "records").iterdir()}
    readers = open_tree(Store(store), root.metadata.record_id)
    plan, offers = make_plan(readers, **rules)  # type: ignore[arg-type]
    for reader in readers:
        reader.close()
    folder = store / "reruns" / new_hex_id()
    folder.mkdir(parents=True)
    write_plan(folder, plan, offers)
    lineage = Lineage(
        store=str(store),
        trace_id=new_hex_id(),
        intent=root.metadata.intent,
        rerun=str(folder),
        rerun_of=root.metadata.record_id,
    )
    plain = environment(None, **(env or {}))
    result = run(argv, plain | variables(lineage, plain.get("PYTHONPATH")), cwd=cwd)
    made = [path for path in (store / "records").iterdir() if path.name not in before]
    again = [Recording(path) for path in sorted(made, key=lambda path: int(path.name.split("-")[0]))]
    return Rerun(result, read_journal(folder), offers, again)
