"""At which calls a worker dies in tests that try many: a few that are spread over its work, or every one if asked.

`ARTSEEK_EVERY_DEATH=1` tries every call. That takes minutes per test; do so after a change of what the test is about.
"""

import os

_EVERY = bool(os.environ.get("ARTSEEK_EVERY_DEATH"))


def moments(calls: int, about: int) -> list[int]:
    """Return about so many of the calls 1 to `calls`, evenly spaced, the first and the last among them."""
    if _EVERY or calls <= about:
        return list(range(1, calls + 1))
    return sorted({1 + place * (calls - 1) // (about - 1) for place in range(about)})


def pace(calls: int) -> int:
    """Return how many calls further on the next death comes, where their number is not known beforehand."""
    return 1 if _EVERY else calls
