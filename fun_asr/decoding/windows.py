"""Overlapping windows of a recording that is too long for a model, and their tokens joined at pauses.

What a model hears near a window's edge lacks its surroundings, so each window's tokens are taken up to a place well
inside the overlap: a pause in both windows, or else between two tokens that both windows have.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from fun_asr.decoding.frames import Emission

__all__ = ["join", "window_starts"]

PAUSE = 3  # frames without a token in either window, around a place to cut


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of windows that cover `frames` frames.

    Arguments:
        frames: to cover.
        window: frames of each.
        overlap: frames that neighbours share at least; the last window ends with the recording.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"need 0 <= overlap < window, not {overlap} and {window}")
    starts = [0]
    while starts[-1] + window < frames:
        starts.append(min(starts[-1] + window - overlap, frames - window))
    return starts


def join(parts: Sequence[Sequence[Emission]], starts: Sequence[int], window: int) -> list[Emission]:
    """The tokens of a recording from those of its windows.

    Arguments:
        parts: of each window, with frames counted from its own start.
        starts: as `window_starts` gives them.
        window: frames of each.
    """
    joined: list[Emission] = []
    for number, (part, start) in enumerate(zip(parts, starts, strict=True)):
        moved = [replace(token, start=token.start + start, end=token.end + start) for token in part]
        if number == 0:
            joined = moved
            continue
        joined = _joined(joined, moved, start, starts[number - 1] + window)
    return joined


def _joined(before: list[Emission], after: list[Emission], start: int, end: int) -> list[Emission]:
    """Tokens of two windows that share the frames from `start` to `end`."""
    middle = (start + end) / 2
    # Near the edges of the overlap one window or the other hears badly.
    margin = (end - start) // 4
    pause = _pause([*before, *after], start + margin, end - margin)
    if pause is not None:
        return [t for t in before if t.start < pause] + [t for t in after if t.start >= pause]
    first = next((i for i, token in enumerate(before) if token.start >= start), len(before))
    last = next((i for i, token in enumerate(after) if token.start >= end), len(after))
    matcher = difflib.SequenceMatcher(
        None, [token.token for token in before[first:]], [token.token for token in after[:last]], autojunk=False
    )
    pairs = [
        (first + block.a + place, block.b + place)
        for block in matcher.get_matching_blocks()
        for place in range(block.size)
    ]
    # The same token at quite another place is another telling of it.
    pairs = [(i, j) for i, j in pairs if abs(before[i].start - after[j].start) <= PAUSE]
    if pairs:
        i, j = min(pairs, key=lambda pair: abs(before[pair[0]].start - middle))
        return [*before[: i + 1], *after[j + 1 :]]
    return [t for t in before if t.start < middle] + [t for t in after if t.start >= middle]


def _pause(tokens: list[Emission], start: int, end: int) -> int | None:
    """The middle of the longest stretch between two frames without tokens; None where all are short."""
    best: tuple[int, int] | None = None
    here = start
    for token in sorted(tokens, key=lambda token: token.start):
        if token.end <= start or token.start >= end:
            continue
        if token.start - here > (best[1] - best[0] if best else 0):
            best = (here, token.start)
        here = max(here, token.end, token.start + 1)
    if end - here > (best[1] - best[0] if best else 0):
        best = (here, end)
    if best is None or best[1] - best[0] < PAUSE:
        return None
    return (best[0] + best[1]) // 2
