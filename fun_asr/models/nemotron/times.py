"""Word times of Nemotron 3.5 Transcribe: the text is aligned with what the CTC head hears.

Shapes: J frames, C classes.
"""

from __future__ import annotations

from torch import Tensor

from fun_asr.decoding.frames import aligned_emissions
from fun_asr.decoding.words import AlignedWord
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.text.scripts import written_units

__all__ = ["timed_words"]


def timed_words(
    text: str, log_probs: Tensor, tokenizer: QwenTokenizer, blank: int, frame: int, samples: int
) -> list[AlignedWord]:
    """The words of a text and where they were said, from the first frame of each to its last.

    Arguments:
        text: of a segment, without tags.
        log_probs: of the CTC head in the segment, `[J, C]`.
        tokenizer: the head's; all of its tokens are below C.
        blank: the blank's index.
        frame: samples of a frame.
        samples: of the segment; no word reaches beyond.

    Returns:
        words in order, of scripts without spaces the units that are written as one: all, or none where the text has
        more tokens than the segment has frames for.
    """
    units = [text[first:last] for first, last in written_units(text)]
    # As the head was taught: each word with the space before it.
    spelled = [tokenizer.encode(f" {unit}") for unit in units]
    tokens = [token for unit in spelled for token in unit]
    if not tokens:
        return []
    # The others play no part in an alignment, and there are tens of thousands of them.
    used = sorted(set(tokens))
    places = {token: place for place, token in enumerate(used)}
    columns = log_probs[:, [*used, blank]].float().cpu()
    said = aligned_emissions(columns, [places[token] for token in tokens], len(used))
    if not said:
        return []
    words: list[AlignedWord] = []
    first = 0
    for unit, spelling in zip(units, spelled, strict=True):
        part = said[first : first + len(spelling)]
        first += len(spelling)
        before = words[-1].end if words else 0
        # A word that is spelled with nothing takes no time.
        start = min(max(part[0].start * frame, before), samples) if part else before
        end = min(max(part[-1].end * frame, start), samples) if part else start
        heard = tuple(emission.log_prob for emission in part)
        words.append(AlignedWord(unit, start, end, heard, heard))
    return words
