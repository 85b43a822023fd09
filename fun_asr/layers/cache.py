"""What a decoder keeps between the steps of a search.

Shapes: B utterances, W hypotheses per utterance (1 in greedy search), R rows (at most B * W), S tokens, L encoder
frames, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CACHE_STEP = 16


@dataclass
class DecoderCache:
    """Keys and values of what was decoded so far (per hypothesis) and of the encoder's output (per utterance)."""

    self_keys: list[Tensor]
    """`[R, H, room, D / H]` a layer, of which `length` tokens are filled; the room grows."""
    self_values: list[Tensor]
    cross_keys: list[Tensor]
    """`[B, H, L, D / H]` a layer: shared by the W hypotheses of an utterance."""
    cross_values: list[Tensor]
    cross_bias: Tensor | None
    """Added to the scores, `[B, 1, 1, L]`: 0 for valid frames with sound, minus infinity for what is not valid; None
    when there is nothing to add."""
    length: int = 0
    """Tokens cached."""
    places: Tensor | None = None
    """Of each row in a `[B, W]` grid, int64 `[R]`, when utterances differ in how many hypotheses they have; None when
    row r is in place r."""
    width: int = 1
    """W, the most hypotheses of an utterance."""

    def select_rows(self, rows: Tensor) -> None:
        """Keep, repeat or reorder hypotheses: `rows` indexes the R rows."""
        for cached in (self.self_keys, self.self_values):
            cached[:] = [tensor.index_select(0, rows) for tensor in cached]

    def lay_out(self, counts: Sequence[int]) -> None:
        """Say how many of the rows, in their order, belong to each utterance."""
        self.width = max(counts)
        self.places = None
        if min(counts) < self.width:
            places = [b * self.width + rank for b, count in enumerate(counts) for rank in range(count)]
            self.places = torch.tensor(places, device=self.cross_keys[0].device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's keys and values `[R, H, S, D / H]` of new tokens; returns all that it has, new ones included.

        `length` stays: it counts the tokens that every layer has.
        """
        end = self.length + keys.shape[2]
        for cached, new in ((self.self_keys, keys), (self.self_values, values)):
            tensor = cached[layer]
            if end > tensor.shape[2]:
                # In steps: room for the longest text would be touched a page a token and head, and be moved as often.
                room = -(-end // CACHE_STEP) * CACHE_STEP
                grown = tensor.new_empty(*tensor.shape[:2], room, tensor.shape[3])
                grown[:, :, : self.length] = tensor[:, :, : self.length]
                cached[layer] = tensor = grown
            tensor[:, :, self.length : end] = new
        return self.self_keys[layer][:, :, :end], self.self_values[layer][:, :, :end]

    def keep_utterances(self, kept: Sequence[int]) -> list[int]:
        """Drop all utterances but `kept`, ascending; their encoder keys and values change places.

        Returns:
            which utterance is now in each place. Those of the last places move to the free ones before them: most stay
            where they are, and nothing is allocated.
        """
        count = len(kept)
        moving = iter(b for b in kept if b >= count)
        stays = set(kept)
        order = [b if b in stays else next(moving) for b in range(count)]
        for place, b in enumerate(order):
            if place != b:
                for tensor in (*self.cross_keys, *self.cross_values):
                    tensor[place] = tensor[b]
                if self.cross_bias is not None:
                    self.cross_bias[place] = self.cross_bias[b]
        for cached in (self.cross_keys, self.cross_values):
            cached[:] = [tensor[:count] for tensor in cached]
        if self.cross_bias is not None:
            self.cross_bias = self.cross_bias[:count]
        return order
