"""What holds for every test: Ctrl-C reaches the programs that tests start, wherever the tests themselves run."""

from __future__ import annotations

import signal

# A shell that runs something in the background without job control has it ignore SIGINT, and so all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
