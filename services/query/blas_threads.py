"""One thread for each product of matrices: requests run side by side already, and blocks are small.

With more, requests that meet wait for each other's threads: on two cores, a scan beside another one took ten times as
long. To be imported before numpy.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
