"""What holds for every test: signals reach the programs that tests start, wherever the tests themselves run."""

from __future__ import annotations

import signal

# What runs in the background of a shell ignores SIGINT, what runs under nohup SIGHUP, and so does all that it starts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
