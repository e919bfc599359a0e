"""What can wait leaves the processors to what somebody waits for."""

import os
import time
from pathlib import Path
from typing import Final

NICE: Final = 5
"""Of four parts of a processor that is wanted by both, three go to the others: a machine with much to do must not keep
it from its work for good."""

_SESSION: Final = Path("/proc/self/autogroup")
_TRIES, _PAUSE_S = 50, 0.1  # the kernel takes a change of any session from other users than root ten times a second


def leave_processors_to_others() -> None:
    """Have the scheduler prefer other processes to this one, for good: to the threads and children that it begins, too.

    Linux shares the processors among sessions before it looks at processes (`sched(7)`, autogroup). So a session in
    which a worker is alone with its children gives way as a whole.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    if os.getsid(0) in {os.getpid(), os.getppid()}:
        _give_way_as_session()


def _give_way_as_session() -> None:
    for _ in range(_TRIES):
        try:
            _SESSION.write_text(str(NICE), encoding="ascii")
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:  # another system, or a kernel without
            return
        else:
            return
