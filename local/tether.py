"""Runs a command that must not outlive the local system: ``python tether.py PARENT_PID COMMAND…``.

On Linux the kernel kills the command when its parent dies, even by SIGKILL: one that could take its time to stop would
meet its successor in the same folder, and might wait for a server that has died already. Elsewhere it just runs.
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
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the tie was made
            raise SystemExit(0)
    os.execvp(command[0], command)  # noqa: S606 -- the local system's own words


if __name__ == "__main__":
    main()
