"""Entering an unmodified program: what `sitecustomize` of the boot folder calls in every Python started under `run`."""

from __future__ import annotations

import os
import sys

from unspool.capture import environment
from unspool.capture.guard import guard
from unspool.capture.process import AgentProcess
from unspool.capture.runtime import end_with_multiprocessing, runtime

__all__ = ["arm_from_environment"]


def arm_from_environment() -> None:
    """Arm capture as the environment says. Never raises."""
    with guard:
        lineage = environment.lineage_from(os.environ)
        if lineage is None or runtime.armed:
            return
        # A Python that an agent started by itself is a worker of it and appears once it does something.
        is_agent = lineage.parent is None
        process = AgentProcess(
            lineage,
            intent=lineage.intent or _command_line(),
            role="agent" if is_agent else "worker",
            on_start=_started,
        )
        runtime.arm(process)
        if is_agent:
            process.ensure()


def _started(process: AgentProcess) -> None:
    environment.publish(process.child_lineage())
    end_with_multiprocessing(process)


def _command_line() -> str:
    return " ".join([os.path.basename(sys.executable or "python"), *sys.orig_argv[1:]])
