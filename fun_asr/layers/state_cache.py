"""What a search keeps of a network that has state-space layers beside those of attention.

A state has forgotten which part of it was the prefix: each hypothesis has its own, which is copied where it branches.

Shapes: R rows (hypotheses).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fun_asr.layers.prefix_cache import PrefixCache

__all__ = ["StateCache"]


class StateCache(PrefixCache):
    """Keys and values of the attention layers, and the states of the others.

    Arguments: as for `PrefixCache`.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(lengths, device)
        self._last: list[Tensor] = []  # rows that there is room for, by place
        self._state: list[Tensor] = []

    def add_state(self, last: Tensor, state: Tensor) -> None:
        """Take the next state-space layer's last inputs and states after each prefix, one row a segment."""
        self._last.append(last)
        self._state.append(state)

    def state(self, layer: int, rows: int) -> tuple[Tensor, Tensor]:
        """A state-space layer's last inputs and states of the hypotheses in their places, to be changed in place."""
        return self._last[layer][:rows], self._state[layer][:rows]

    def select(self, rows: Sequence[int], counts: Sequence[int], segments: Sequence[int] | None = None) -> None:
        """Say which hypotheses go on, as `PrefixCache.select` does."""
        sources = [self._places[row] for row in rows]
        super().select(rows, counts, segments)
        moves = [(source, place) for source, place in zip(sources, self._places, strict=True) if source != place]
        for kept in (self._last, self._state):
            for layer, tensor in enumerate(kept):
                if len(rows) > len(tensor):
                    kept[layer] = torch.cat((tensor, tensor.new_empty(len(rows) - len(tensor), *tensor.shape[1:])))
        self._move((*self._last, *self._state), moves)
