"""Runs a command that must not outlive the launcher: ``python tether.py PARENT_PID COMMAND…``.

On Linux the kernel sends the command SIGTERM when its parent dies, even by SIGKILL. Elsewhere the command just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the tie was made
            raise SystemExit(0)
    os.execvp(command[0], command)  # noqa: S606 -- the launcher's own words


if __name__ == "__main__":
    main()
