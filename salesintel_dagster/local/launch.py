"""Become a child of the embedded world: die with the supervisor, drop to another user, then exec the real command.

Run by path with `python -I -S launch.py DEATH_SIGNAL PARENT_PID UID GID COMMAND...` (UID -1: stay who we are).
Standard library only. A program of its own, since `preexec_fn` may deadlock in a process with threads; it costs
15 ms a child.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
USAGE_ARGUMENTS = 6


def main(argv: list[str]) -> None:
    """Drop privileges first: a change of user would clear the parent-death signal (prctl(2))."""
    if len(argv) < USAGE_ARGUMENTS:
        sys.exit("usage: launch.py DEATH_SIGNAL PARENT_PID UID GID COMMAND...")
    death_signal, parent_pid, uid, gid = (int(word) for word in argv[1:5])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent_pid:
            sys.exit("the supervisor ended before its child began")
    os.execv(argv[5], argv[5:])  # noqa: S606 - no shell is the point; the supervisor chose the command


if __name__ == "__main__":
    main(sys.argv)
