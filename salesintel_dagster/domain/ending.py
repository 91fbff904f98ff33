"""How a server of ours that was told to stop ends for certain, whatever still hangs in it."""

from __future__ import annotations

import os
import threading

STOP_SECONDS = 4.0
"""From the signal to the end of the process."""
KILL_SECONDS = 4.5
"""From the signal to the SIGKILL by whoever supervises the process: later than its own end. `up` ends in twice as
long at most, Dagster first and the world that its runs write into after it."""


def end_for_certain() -> None:
    """Let this process end after `STOP_SECONDS`, with exit code 1, unless it has ended by itself by then."""
    timer = threading.Timer(STOP_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()
