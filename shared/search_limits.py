"""What a search may be asked for, as far as a command line says so before anything is computed: imports no library."""

from typing import Final, Literal

Metric = Literal["cosine", "euclidean"]

MAX_PROBES: Final = 1024
"""What making the perturbation sets of multi-probe allows: 1,024 of 24 hashes take 0.2 s, once."""
