"""How long the network's threads wait for each other before they let go of their cores."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["set_up_threads"]

SPINS = 5000
"""A twentieth of a millisecond by libgomp's own estimate: what putting a thread to sleep and waking it costs.

By default GNU's OpenMP spins for milliseconds, and where other work wants the cores, threads then spin for one that was
put off them. docs/measurements.md, "Two jobs on one machine", has the numbers that this one was chosen by.
"""
_CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def set_up_threads(environment: MutableMapping[str, str] | None = None) -> None:
    """Set GNU OpenMP's GOMP_SPINCOUNT, unless it or OMP_WAIT_POLICY is set; processes started later inherit it.

    Call it before torch is loaded: only then is the variable read.
    """
    environment = os.environ if environment is None else environment
    if not any(name in environment for name in _CHOICES):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
