"""Choosing among the decoder's hypotheses with the n-gram language model of the CTC head's pieces.

The decoder's own search ends with the highest mean log-probability a token; the sum, the probability of the whole
sentence, prefers the shorter of two near equals ("tonight" to "to night"), and the language model knows which of them
people write. bin/benchmark tells what that buys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fun_asr.decoding.language_model import BOUNDARY, NGramModel
from fun_asr.text.tokenizer import CTCTokenizer

LANGUAGE_WEIGHT = 0.15
PIECE_BONUS = 0.3
"""Added for each piece, of which the language model takes a little for each."""

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'"})


def spoken_form(text: str) -> str | None:
    """Formatted English as the CTC head's vocabulary has it: lower case, no punctuation.

    Returns:
        None where the words are not known: digits, symbols that are read out, letters that English lacks.

    >>> spoken_form("It's Mr. Brown’s well-known dog!")
    "it's mr brown's well known dog"
    """
    lowered = text.lower().translate(_APOSTROPHES)
    if re.search(r"[^a-z' .,;:?!\-–—\"“”…]", lowered):
        return None
    words = re.sub(r"[^a-z']+", " ", lowered).split()
    return " ".join(stripped for word in words if (stripped := word.strip("'")))


def best_hypothesis(
    n_best: Sequence[tuple[float, list[int]]], texts: Sequence[str], model: NGramModel, tokenizer: CTCTokenizer
) -> int:
    """Index of the hypothesis that decoder and language model together find most likely.

    The decoder's first choice stays where a hypothesis has no spoken form.

    Arguments:
        n_best: mean log-probability a token and tokens of each hypothesis, end of text not among the tokens.
        texts: what each says.
        model: over the pieces of `tokenizer`.
        tokenizer: the CTC head's.
    """
    spoken = [form for text in texts if (form := spoken_form(text)) is not None]
    if len(texts) < 2 or len(spoken) < len(texts):
        return 0
    joint = []
    for (score, tokens), form in zip(n_best, spoken, strict=True):
        pieces = tokenizer.encode(form)
        stream = [BOUNDARY, *pieces, BOUNDARY]
        language = sum(math.log(model.next(stream[:i])[stream[i]]) for i in range(1, len(stream)))
        joint.append(score * (len(tokens) + 1) + LANGUAGE_WEIGHT * language + PIECE_BONUS * len(pieces))
    return joint.index(max(joint))
