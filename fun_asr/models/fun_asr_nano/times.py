"""Word times of Fun-ASR-Nano: the text is aligned with what the CTC branch hears.

Shapes: L frames, C the CTC branch's vocabulary.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import torch
from torch import Tensor

from fun_asr.audio.kaldi_features import FRAME
from fun_asr.decoding.frames import aligned_emissions
from fun_asr.decoding.words import AlignedWord
from fun_asr.text.ranked_bpe import RankedBPE
from fun_asr.text.scripts import written_units

__all__ = ["ctc_text", "timed_words"]


def timed_words(text: str, log_probs: Tensor, tokenizer: RankedBPE, blank: int, samples: int) -> list[AlignedWord]:
    """The words of a text and where they were said.

    Arguments:
        text: of a segment.
        log_probs: of the CTC branch in the segment, `[L, C]`.
        tokenizer: the branch's; all of its tokens are below C.
        blank: the blank's index.
        samples: of the segment; no word reaches beyond.

    Returns:
        words in order; none where the text has more tokens than the segment has frames for.
    """
    tokens = tokenizer.encode(text)
    # The others play no part in an alignment, and there are tens of thousands of them.
    used = sorted(set(tokens))
    columns = log_probs[:, [*used, blank]].float().cpu()
    places = {token: place for place, token in enumerate(used)}
    said = aligned_emissions(columns, [places[token] for token in tokens], len(used))
    if not said:
        return []
    pieces = [tokenizer.token(token) for token in tokens]
    ends = list(accumulate(map(len, pieces)))  # in bytes of the text

    def frame(byte: int) -> float:
        """Where a byte's sound starts: what stands in one token shares its time."""
        index = min(bisect_right(ends, byte), len(pieces) - 1)
        piece, here = pieces[index], said[index]
        spaces = len(piece) - len(piece.lstrip())
        inside = max(0, byte - (ends[index] - len(piece)) - spaces)
        return here.start + (here.end - here.start) * inside / max(1, len(piece) - spaces)

    lengths = [0, *accumulate(len(letter.encode()) for letter in text)]
    words: list[AlignedWord] = []
    for first, last in written_units(text):
        index = min(bisect_right(ends, lengths[last] - 1), len(pieces) - 1)
        whole = lengths[last] == ends[index]
        start, end = frame(lengths[first]), float(said[index].end) if whole else frame(lengths[last])
        low = min(max(round(start * FRAME), words[-1].end if words else 0), samples)
        heard = tuple(part.log_prob for part in said[bisect_right(ends, lengths[first]) : index + 1])
        words.append(AlignedWord(text[first:last], low, min(max(round(end * FRAME), low), samples), heard, heard))
    return words


def ctc_text(log_probs: Tensor, tokenizer: RankedBPE, blank: int) -> tuple[str, float]:
    """What the CTC branch reads by itself, and its mean log-probability a frame.

    Arguments: as for `timed_words`.
    """
    best, tokens = log_probs.max(dim=-1)
    merged = torch.unique_consecutive(tokens).tolist()
    text = tokenizer.decode([token for token in merged if token != blank])
    return " ".join(text.split()), float(best.mean())
