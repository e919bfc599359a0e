"""Importing this module makes numpy use one thread for each product of matrices.

Requests run side by side already, and their blocks are small. With more threads, requests that meet wait for each
other's threads: on two cores, a scan beside another one took ten times as long.

numpy reads these environment variables when it is loaded, so this module is imported before numpy. It is the only
module that changes the environment of the process. Values that are set already are kept.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
