"""What holds for every test: signals reach what tests start, and no test sets the width of the output of another."""

from __future__ import annotations

import signal

import pytest

# What runs in the background of a shell ignores SIGINT, what runs under nohup SIGHUP, and so does all that it starts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_size_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual sets these for the whole process when an app runs in it; commands go by them."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
