"""Keys and values of a search that goes on from prefixes: those of a prefix once, whatever the hypotheses.

Prefixes are long (a second of audio is a dozen vectors) and never change; hypotheses are short, branch and end. So a
prefix is kept once for all hypotheses of its segment, and a hypothesis that goes on stays where it is: only what is
written of one that branches is copied.

Shapes: B segments, P positions of the longest prefix, R rows (hypotheses), W most of a segment, S tokens written, H
query heads, G key heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["PrefixCache"]

FIRST_ROOM = 32  # tokens; grows by half, so that what is copied in growing stays below twice what is written


class PrefixCache:
    """What a decoder keeps between the steps of a search; it starts with one empty hypothesis a segment.

    Rows of tensors are hypotheses in the order of their places here; `arrange` puts what is in the caller's order into
    that of the places, `restore` the other way.

    Arguments:
        lengths: positions of each segment's prefix.
        device: of what comes from and goes to the caller; a layer's keys and values stay on the layer's device.
        dtype: of what is kept, in which attention computes; None keeps what comes.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.written = 0
        """Tokens of each hypothesis, the one of the current step included."""
        self._device, self._dtype = device, dtype
        self._lengths = list(lengths)
        self._slots = list(range(len(lengths)))  # where each segment's prefix is kept
        self._places = list(range(len(lengths)))  # where each hypothesis is kept
        self._prefix_keys: list[Tensor] = []  # [B, G, P, d] a layer
        self._prefix_values: list[Tensor] = []
        self._keys: list[Tensor] = []  # [rows that there is room for, G, tokens that there is room for, d] a layer
        self._values: list[Tensor] = []
        self._lay_out([1] * len(lengths))

    def add_layer(self, keys: Tensor, values: Tensor) -> None:
        """Take the next layer's keys and values `[G, N, d]` of the packed prefixes."""
        for packed, prefixes, written in (
            (keys, self._prefix_keys, self._keys),
            (values, self._prefix_values, self._values),
        ):
            heads, _, width = packed.shape
            padded = packed.new_zeros(len(self._lengths), heads, max(self._lengths), width, dtype=self._dtype)
            for into, part in zip(padded, packed.split(self._lengths, dim=1), strict=True):
                into[:, : part.shape[1]] = part
            prefixes.append(padded)
            written.append(padded.new_empty(len(self._lengths), heads, 0, width))

    def arrange(self, x: Tensor) -> Tensor:
        """Rows in the order of the hypotheses, in that of their places."""
        return x if self._to_places is None else x.index_select(0, self._to_places)

    def restore(self, x: Tensor) -> Tensor:
        """Rows in the order of the places, in that of the hypotheses."""
        return x if self._from_places is None else x.index_select(0, self._from_places)

    def advance(self) -> Tensor:
        """Make room for one more token of each hypothesis; returns the tokens' positions, int64 `[R]`."""
        self.written += 1
        return self._ends_R + (self.written - 1)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of each hypothesis' current token to its prefix, the tokens before it, and itself.

        Arguments:
            layer: whose keys and values these are.
            queries: `[R, H, d]`.
            keys, values: `[R, G, d]`, which are kept.

        Returns:
            `[R, H * d]`, in the dtype of the queries.
        """
        R, H, d = queries.shape
        G = keys.shape[1]
        dtype = self._dtype or queries.dtype
        own_keys = self._append(self._keys, layer, keys)
        own_values = self._append(self._values, layer, values)
        prefix_keys, prefix_values = (
            kept[layer][: self._bias.shape[0], :, : self._bias.shape[-1]]
            for kept in (self._prefix_keys, self._prefix_values)
        )
        q = (queries * d**-0.5).to(dtype).view(R, G, H // G, d)
        # Keys times queries, not queries times keys: a third of the time on a CPU, where few queries meet many keys.
        before = torch.matmul(prefix_keys, self._by_segment(q).mT).mT + self._bias.to(q.device, q.dtype)
        since = torch.matmul(own_keys, q.mT).mT
        scores = torch.cat((self._by_hypothesis(before), since), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(dtype)
        P = prefix_keys.shape[2]
        y = self._by_hypothesis(torch.matmul(self._by_segment(weights[..., :P]), prefix_values))
        return (y + torch.matmul(weights[..., P:], own_values)).flatten(1).to(queries.dtype)

    def select(self, rows: Sequence[int], counts: Sequence[int], segments: Sequence[int] | None = None) -> None:
        """Say which hypotheses go on.

        Arguments:
            rows: which of the hypotheses each of the new ones goes on from, segment by segment.
            counts: how many of the new ones each segment has, at least one.
            segments: which stay, ascending; None where all do.
        """
        if list(rows) == list(range(len(self._places))) and list(counts) == self._counts and segments is None:
            return
        self._places, moves = _moved([self._places[row] for row in rows])
        if self.written:
            for kept in (self._keys, self._values):
                for layer in range(len(kept)):
                    self._reserve(kept, layer, len(rows), self.written)
            self._move((*self._keys, *self._values), moves)
        if segments is not None:
            self._slots, moves = _moved([self._slots[b] for b in segments])
            self._move((*self._prefix_keys, *self._prefix_values), moves)
            self._lengths = [self._lengths[b] for b in segments]
        self._lay_out(counts)

    def _lay_out(self, counts: Sequence[int]) -> None:
        """Find out where each hypothesis is among those of its segment."""
        self._counts, self._width = list(counts), max(counts)
        places: list[tuple[int, int]] = []  # in the grid [B, W], and where its prefix ends
        for slot, length, count in zip(self._slots, self._lengths, counts, strict=True):
            places += [(slot * self._width + rank, length) for rank in range(count)]
        of_place = sorted(range(len(places)), key=lambda row: self._places[row])
        grid = [places[row][0] for row in of_place]

        def indices(values: Sequence[int]) -> Tensor | None:
            """None where nothing changes its order."""
            return None if list(values) == list(range(len(values))) else torch.tensor(values, device=self._device)

        self._to_places, self._from_places = indices(of_place), indices(self._places)
        full = len(grid) == len(counts) * self._width
        self._grid = indices(grid) if full else torch.tensor(grid, device=self._device)
        self._ends_R = torch.tensor([places[row][1] for row in of_place], device=self._device)
        lengths = torch.tensor(self._lengths, device=self._device)
        lengths = torch.empty_like(lengths).index_copy_(0, torch.tensor(self._slots, device=self._device), lengths)
        padding = torch.arange(max(self._lengths), device=self._device) >= lengths[:, None]
        self._bias = torch.zeros(padding.shape, device=self._device).masked_fill_(padding, -torch.inf)[:, None, None]

    def _by_segment(self, x: Tensor) -> Tensor:
        """`[R, G, H / G, n]` to `[B, G, W * H / G, n]`."""
        if self._grid is not None:
            x = x.new_zeros(len(self._slots) * self._width, *x.shape[1:]).index_copy_(0, self._grid.to(x.device), x)
        by_segment: Tensor = x.unflatten(0, (-1, self._width)).transpose(1, 2).flatten(2, 3)
        return by_segment

    def _by_hypothesis(self, x: Tensor) -> Tensor:
        """`[B, G, W * H / G, n]` to `[R, G, H / G, n]`."""
        x = x.unflatten(2, (self._width, -1)).transpose(1, 2).flatten(0, 1)
        return x if self._grid is None else x.index_select(0, self._grid.to(x.device))

    def _append(self, kept: list[Tensor], layer: int, new: Tensor) -> Tensor:
        """All that a layer has of each hypothesis, `[R, G, S, d]`, the new `[R, G, d]` included."""
        tensor = self._reserve(kept, layer, len(new), self.written)
        tensor[: len(new), :, self.written - 1] = new
        return tensor[: len(new), :, : self.written]

    def _reserve(self, kept: list[Tensor], layer: int, rows: int, tokens: int) -> Tensor:
        tensor = kept[layer]
        if rows > tensor.shape[0] or tokens > tensor.shape[2]:
            room = tensor.shape[2] if tokens <= tensor.shape[2] else max(FIRST_ROOM, tokens + tokens // 2)
            grown = tensor.new_empty(max(rows, tensor.shape[0]), tensor.shape[1], room, tensor.shape[3])
            grown[: tensor.shape[0], :, : tensor.shape[2]] = tensor
            kept[layer] = tensor = grown
        return tensor

    def _move(self, tensors: Sequence[Tensor], moves: Sequence[tuple[int, int]]) -> None:
        if moves:
            before, after = (torch.tensor(side, device=self._device) for side in zip(*moves, strict=True))
            for tensor in tensors:
                device = tensor.device
                tensor.index_copy_(0, after.to(device), tensor.index_select(0, before.to(device)))


def _moved(sources: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Places for as many as there are, of which each was in some place or goes on from who was, and what must be moved.

    Whoever can stays.

    >>> _moved([0, 0, 3])
    ([0, 1, 2], [(0, 1), (3, 2)])
    """
    taken: set[int] = set()
    places: list[int | None] = []
    for source in sources:
        stays = source < len(sources) and source not in taken
        places.append(source if stays else None)
        if stays:
            taken.add(source)
    # Nobody goes on from who was in a free place: the first to do so would have stayed there.
    free = iter(place for place in range(len(sources)) if place not in taken)
    found = [next(free) if place is None else place for place in places]
    return found, [(source, place) for source, place in zip(sources, found, strict=True) if source != place]
