"""How many processes a query service has, if no setting says so: as many as there are cores for it, up to four.

Each takes some memory of its own, so more are a choice of whoever has that memory.
"""

import sys
from typing import Final

from shared.usable_cores import usable_cores

MOST_BY_ITSELF: Final = 4


def process_count(setting: int) -> int:
    """Return the number of processes for `ARTSEEK_QUERY_PROCESSES`; 0: one for each core, up to `MOST_BY_ITSELF`."""
    if setting:
        return setting
    # Elsewhere, the kernel does not spread connections over the processes that listen at one port.
    return min(MOST_BY_ITSELF, usable_cores()) if sys.platform == "linux" else 1
