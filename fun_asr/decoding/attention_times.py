"""Where the tokens of a text lie in time, by the decoder's cross-attention and dynamic time warping.

Some heads look, at each token, at the frames in which it is said (Radford et al. 2022 publish which). Their weights are
standardised over the tokens, smoothed by a median over the frames, and averaged; the path through them that goes on in
time with every token is the one of the highest sum (dynamic time warping, Sakoe & Chiba 1978).

Shapes: B utterances, S tokens read, L encoder frames (20 ms), A heads, N text tokens.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.decoding.words import HOP, levels_of, quiet_stretch
from fun_asr.layers.attention import CrossAttention
from fun_asr.layers.decoder import Decoder

__all__ = ["TokenFrames", "attention_weights", "token_frames", "warp", "without_pauses"]

MEDIAN_WIDTH = 7  # frames
SEARCHED_BEFORE, SEARCHED_AFTER = 10, 20  # hops around an edge in which a pause is looked for

PAUSE_IN_WORD = 10.0  # what the path pays, in standard deviations of the weights


@dataclass(frozen=True)
class TokenFrames:
    """The frames of one text's tokens."""

    starts: npt.NDArray[np.int64]
    """First frame of each token, and of what follows the last one, `[N + 1]`."""
    ends: npt.NDArray[np.int64]
    """One past the last frame of each, `[N]`: where the next one starts, or a pause before it."""


@torch.inference_mode()
def attention_weights(
    decoder: Decoder,
    tokens_BS: Tensor,
    encoded: Tensor,
    encoded_mask: Tensor | None,
    heads: Sequence[tuple[int, int]],
) -> Tensor:
    """Where some heads of the cross-attention look while the decoder reads whole sequences.

    Arguments:
        decoder: float or int8.
        tokens_BS: prompt, text and end, int64 `[B, S]`.
        encoded: the encoder's output `[B, L, D]`.
        encoded_mask: the decoder's `memory_mask`, `[B, L]`.
        heads: layer and head of each, at least one.

    Returns:
        the weights `[B, A, S, L]` float32, the heads in the order of their layers.
    """
    of_layer: dict[int, list[int]] = defaultdict(list)
    for layer, head in heads:
        of_layer[layer].append(head)
    found: dict[int, Tensor] = {}

    own = threading.get_ident()

    def look(layer: int, attention: CrossAttention, args: tuple[Any, ...]) -> None:
        if threading.get_ident() != own:  # another caller's text, with the same decoder
            return
        x, keys = args[0], args[1]
        B, S, D = x.shape
        q = attention.q(x).view(B, S, attention.num_heads, -1).transpose(1, 2)[:, of_layer[layer]]
        scores = (q.to(keys.dtype) @ keys[:, of_layer[layer]].transpose(2, 3)).float()
        scores = scores * (D // attention.num_heads) ** -0.5
        if encoded_mask is not None and encoded_mask.is_floating_point():
            scores = scores + encoded_mask[:, None, None]
        elif encoded_mask is not None:
            scores = scores.masked_fill(~encoded_mask[:, None, None], -torch.inf)
        found[layer] = scores.softmax(dim=-1)

    handles = []
    try:
        for layer in of_layer:
            attention = decoder.blocks[layer].get_submodule("cross_attention")
            handles.append(attention.register_forward_pre_hook(partial(look, layer)))
        decoder(tokens_BS, encoded, encoded_mask)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat([found[layer] for layer in sorted(found)], dim=1)


def token_frames(
    weights: Tensor,
    prompt: int,
    tokens: int,
    frames: int,
    pauses: Sequence[tuple[int, int]] = (),
    begins: Sequence[bool] | None = None,
) -> TokenFrames:
    """The frames of one text's tokens.

    Arguments:
        weights: `[A, S, L]` of one utterance.
        prompt: tokens read before the text.
        tokens: of the text, N.
        frames: with sound, of the L.
        pauses: first frame, and one past the last, of the stretches in which nobody speaks, ascending.
        begins: whether each token begins a word; all do by default.
    """
    used = weights[:, : prompt + tokens + 1, : max(1, frames)]
    used = used / used.sum(dim=-1, keepdim=True).clamp(min=1e-8)
    mean = used.mean(dim=-2, keepdim=True)
    spread = used.std(dim=-2, keepdim=True, unbiased=False).clamp(min=1e-8)
    smooth = _median((used - mean) / spread, MEDIAN_WIDTH)
    # What is read last before a token predicts it: the prompt's last token the first one, the last token the end.
    matrix = smooth.mean(dim=0)[prompt - 1 : prompt + tokens]
    return _placed(matrix.double().cpu().numpy(), pauses, [True] * tokens if begins is None else begins)


def _placed(matrix: npt.NDArray[np.float64], pauses: Sequence[tuple[int, int]], begins: Sequence[bool]) -> TokenFrames:
    """Where the path through a matrix `[N + 1, L]` puts N tokens: no word's frames lie on both sides of a pause."""
    tokens, length = len(matrix) - 1, matrix.shape[1]
    heard = np.ones(length, bool)
    for start, end in pauses:
        heard[max(0, start) : max(0, end)] = False
    if not heard.any():
        heard[:] = True
    # The weights say nothing of where nobody speaks: there is no more to look at.
    kept = np.flatnonzero(heard)
    joints = np.flatnonzero(np.diff(kept, prepend=kept[0] - 1) > 1)
    matrix = matrix[:, kept]
    token_of, column_of = warp(-matrix, joints, np.array([*begins, True]))
    first = column_of[np.searchsorted(token_of, np.arange(tokens + 1))]
    starts, ends = kept[first], np.zeros(tokens, np.int64)
    words = [*np.flatnonzero(np.array(begins) | (np.arange(tokens) == 0)).tolist(), tokens]
    for low, high in pairwise(words):
        # A word that goes on over a pause all the same is where the heads see the most of it.
        on_path = (token_of >= low) & (token_of < high)
        columns = column_of[on_path]
        seen = matrix[token_of[on_path], columns].clip(min=0)
        # Up to where the next word starts, which the path may enter in the same column.
        stretch = np.searchsorted(joints, columns, side="right")
        best = max(np.unique(stretch).tolist(), key=lambda place: float(seen[stretch == place].sum()))
        edges = [0, *joints.tolist(), len(kept)]
        begin, end = int(kept[edges[best]]), int(kept[edges[best + 1] - 1]) + 1
        until = [int(kept[column]) for column in first[low + 1 : high]]
        last = int(kept[first[high]]) if first[high] < edges[best + 1] else end
        starts[low:high] = np.clip(starts[low:high], begin, end)
        ends[low:high] = np.clip([*until, last], begin, end)
    return TokenFrames(starts, ends)


def _median(x: Tensor, width: int) -> Tensor:
    """The median of every `width` values along the last axis, whose ends are mirrored."""
    half = width // 2
    if x.shape[-1] <= half:
        return x
    padded = F.pad(x, (half, half), mode="reflect")
    return padded.unfold(-1, width, 1).median(dim=-1).values


def warp(
    costs: npt.NDArray[np.floating],
    joints: Sequence[int] | npt.NDArray[np.int64] = (),
    begins: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The path of the least sum through a matrix, from its first corner to its last, that never goes back.

    Arguments:
        costs: `[N, L]`, at least one each.
        joints: columns before which something was left out.
        begins: rows in which the path is to go on there, `[N]`; it pays for any other.

    Returns:
        row and column of every step, int64 `[steps]` each.
    """
    N, L = costs.shape
    # Along the diagonals: the cells of one only depend on the two before. Row i of diagonal d is the cell (i, d - i).
    before = np.full(N + 1, np.inf)
    last = np.full(N + 1, np.inf)
    came = np.zeros((N + L - 1, N), np.uint8)  # 0 from the diagonal, 1 from the row above, 2 from the left
    rows = np.arange(N)
    toll = np.zeros(L)
    toll[np.asarray(joints, np.int64)] = PAUSE_IN_WORD
    free = np.zeros(N, bool) if begins is None else begins
    for d in range(N + L - 1):
        low, high = max(0, d - L + 1), min(N, d + 1)
        here = rows[low:high]
        # Shifted by one, so that place 0 stands for the row above the first.
        diagonal, above, left = before[low:high], last[low:high], last[low + 1 : high + 1]
        if d == 0:
            diagonal = np.zeros(1)
        elif len(joints):
            paid = toll[d - here]
            diagonal, left = diagonal + np.where(free[here], 0.0, paid), left + paid
        choice = np.where(
            (diagonal < above) & (diagonal < left), 0, np.where((above < diagonal) & (above < left), 1, 2)
        )
        came[d, low:high] = choice
        best = np.choose(choice, (diagonal, above, left))
        current = np.full(N + 1, np.inf)
        current[low + 1 : high + 1] = costs[here, d - here] + best
        before, last = last, current
    row, column = N - 1, L - 1
    path = [(row, column)]
    while row or column:
        step = int(came[row + column, row])
        row -= step != 2
        column -= step != 1
        path.append((row, column))
    steps = np.array(path[::-1], np.int64)
    return steps[:, 0], steps[:, 1]


def without_pauses(
    spans: Sequence[tuple[int, int]], samples: npt.NDArray[np.float32], pauses: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """The words less the quiet between them: attention goes straight from one word to the next.

    Arguments:
        spans: first sample of each word and one past its last, ascending; words that meet may have a pause there.
        samples: of the segment, float32 `[samples]`.
        pauses: that are known, in samples, ascending; no word is on both sides of one, or will be.
    """
    if not spans:
        return []
    levels = levels_of(samples)
    hops = [(min(start // HOP, len(levels)), min(end // HOP, len(levels))) for start, end in spans]
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    loudest = [float(levels[a : max(b, a + 1)].max(initial=-100.0)) for a, b in hops]
    for i in range(len(spans) + 1):
        first, last = i == 0, i == len(spans)
        # The warping may put the edge anywhere in the pause, but never beyond the middle of a word; the first one it
        # puts where the segment starts, however long the silence is before the word.
        low = 0 if first else sum(hops[i - 1]) // 2
        high = len(levels) if last else hops[0][1] if first else -(-sum(hops[i]) // 2)
        loud = min(loudest[max(0, i - 1) : i + 1])
        pause = quiet_stretch(levels, low, high, loud) if high > low else None
        if pause is not None and not first and not last:
            # Far from the edge of two words, a quiet stretch is a consonant's closure.
            near = max(low, hops[i - 1][1] - SEARCHED_BEFORE), min(high, hops[i][0] + SEARCHED_AFTER)
            if pause[1] <= near[0] or pause[0] >= near[1]:
                pause = quiet_stretch(levels, *near, loud)
        if pause is None:
            continue
        if not first:
            ends[i - 1] = max(starts[i - 1], pause[0] * HOP)
        if not last:
            starts[i] = min(max(pause[1] * HOP, ends[i - 1] if i else 0), len(samples))
    for i, (begin, stop) in enumerate(spans):
        # By their middle: they are known to the sample, and the words to the frame.
        before = max((end for start, end in pauses if start + end <= 2 * begin), default=0)
        after = min((start for start, end in pauses if start + end >= 2 * stop), default=len(samples))
        starts[i], ends[i] = (min(max(edge, before), max(after, before)) for edge in (starts[i], ends[i]))
    return [(start, max(start, end)) for start, end in zip(starts, ends, strict=True)]
