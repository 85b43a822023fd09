"""What readers of containers hand on: frames of samples, and holes where there are none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Frames", "Hole", "Piece"]


class Frames(NamedTuple):
    """Samples as the container has them."""

    rate: int
    """Hz."""
    values: npt.NDArray[np.float32]
    """`[n, channels]`, nominally in [-1, 1]."""


class Hole(NamedTuple):
    """A stretch without samples."""

    rate: int
    """Hz."""
    frames: int | None
    """Length at that rate; None where it is not known."""
    cause: str | None = None
    """Why what was there cannot be decoded; None where nothing was sent."""
    filled: bool = True
    """Whether silence takes its place."""


Piece = Frames | Hole
