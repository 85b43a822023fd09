"""WordPiece (Wu et al. 2016): words as the longest pieces of a vocabulary, as uncased BERT splits them.

Shapes: U different words, P pieces of all of them, N words of a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from fun_asr.errors import CheckpointError

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_PIECES = (PAD, UNKNOWN, CLS, SEP, MASK)

MAX_WORD_PIECES = 16
"""Most pieces of a word; the rest of a longer one is left out."""


class WordPieceTokenizer:
    """Splits words.

    Arguments:
        pieces: the vocabulary; a piece that goes on in a word begins with "##".

    Raises:
        CheckpointError: when a special piece is missing.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        numbers = {piece: number for number, piece in enumerate(pieces)}
        missing = [piece for piece in SPECIAL_PIECES if piece not in numbers]
        if missing:
            raise CheckpointError(f"the vocabulary lacks {missing[0]}")
        self.pad, self.unknown, self.cls, self.sep, self.mask = (numbers[piece] for piece in SPECIAL_PIECES)
        self._tokenizer = Tokenizer(WordPiece(numbers, unk_token=UNKNOWN))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()

    def split(self, words: Sequence[str]) -> list[list[int]]:
        """The pieces of each word, at least one and at most `MAX_WORD_PIECES`."""
        encoded = self._tokenizer.encode_batch_fast(list(words), add_special_tokens=False)
        return [encoding.ids[:MAX_WORD_PIECES] or [self.unknown] for encoding in encoded]


class WordTypes:
    """The pieces of U different words, to lay out texts with that are made of them."""

    def __init__(self, tokenizer: WordPieceTokenizer, words: Sequence[str]) -> None:
        split = tokenizer.split(words)
        self.counts_U = np.array([len(pieces) for pieces in split], dtype=np.int64)
        self._ends_U = np.cumsum(self.counts_U)
        self._pieces_P = np.array([number for pieces in split for number in pieces], dtype=np.int64)

    def lay_out(self, types_N: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Words by their numbers -> all their pieces one after the other, and the place of each word's last piece."""
        counts_N = self.counts_U[types_N]
        ends_N = np.cumsum(counts_N)
        places = np.arange(counts_N.sum()) + np.repeat(self._ends_U[types_N] - ends_N, counts_N)
        return self._pieces_P[places], ends_N - 1
