"""What a rerun is served from, and what came of it: known to the agent's process and to the one that supervises it.

A supervisor writes a rerun folder (`plan.json`, `offers.jsonl`); every process of the rerun reads it, claims what it
serves by exclusive creates in `claims/`, and appends what happened to `journal.jsonl`, which the supervisor judges.
"""
