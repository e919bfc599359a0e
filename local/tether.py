"""Runs a command that must not outlive the local system: ``python tether.py PARENT_PID SIGNAL COMMAND…``.

On Linux the kernel sends the command the signal when its parent dies, even by SIGKILL. Elsewhere the command just runs.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, number, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before the tie was made
            raise SystemExit(0)
    os.execvp(command[0], command)  # noqa: S606 -- the local system's own words


if __name__ == "__main__":
    main()
