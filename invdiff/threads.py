"""Threads that sleep while they wait. To be imported before torch, which reads this once.

By default OpenMP's threads spin at every barrier. Where another process holds one of the cores, a
spinning thread keeps the other from its work: `invdiff demo ct` took 279 s instead of 21 s on two
cores with one busy. A user's own OMP_WAIT_POLICY is left alone.
"""

import os

__all__: list[str] = []

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
