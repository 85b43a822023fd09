"""SenseVoice's vocabulary: text, and the tags with which it answers what it is asked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fun_asr.errors import CheckpointError
from fun_asr.text.pieces import Pieces, sentencepiece_pieces
from fun_asr.text.scripts import WRITTEN_BY_CHARACTER
from fun_asr.text.tokenizer_file import LARGEST_FILE

__all__ = ["SensePieces", "sense_pieces"]

_TAG = re.compile(r"<\|(.+)\|>")
_SPACE = "▁"


class SensePieces(Pieces):
    """A SentencePiece vocabulary whose tags are no text.

    Arguments:
        pieces: the vocabulary with its tags.
    """

    def __init__(self, pieces: Pieces) -> None:
        texts = [pieces.piece(number) for number in range(len(pieces))]
        found = {number: _TAG.fullmatch(text) for number, text in enumerate(texts) if text is not None}
        self.tags = {number: match[1] for number, match in found.items() if match is not None}
        """What stands between the signs of each tag."""
        super().__init__(
            [None if number in self.tags else text for number, text in enumerate(texts)], pieces.encoded, pieces.decode
        )

    def encode(self, text: str) -> list[int] | None:
        """The tokens of a text; None where it has a letter that no piece has."""
        tokens = super().encode(text)
        # SentencePiece starts every text with a space, which CTC does not write before a Chinese character.
        if tokens and WRITTEN_BY_CHARACTER.match(text) and self.piece(tokens[0]) == _SPACE:
            return tokens[1:]
        return tokens

    def split_words(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each word; characters of languages without spaces are words, and what follows one starts one.

        Punctuation belongs to the word before it.
        """
        starts: list[int] = []
        before = ""
        for place, token in enumerate(tokens):
            piece = self.piece(token) or ""
            text = piece.lstrip(_SPACE)
            marks = bool(text) and all(unicodedata.category(letter)[0] == "P" for letter in text)
            apart = bool(WRITTEN_BY_CHARACTER.match(text[:1]) or WRITTEN_BY_CHARACTER.match(before[-1:]))
            if place == 0 or (not marks and text and (piece.startswith(_SPACE) or before == _SPACE or apart)):
                starts.append(place)
            before = piece or before
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(tokens)], strict=True)]


def sense_pieces(directory: Path) -> SensePieces:
    """The vocabulary in a model's folder.

    Raises:
        CheckpointError: when there is not one SentencePiece model in it, or it is damaged.
    """
    models = sorted(directory.glob("*.bpe.model")) or sorted(directory.glob("*.model"))
    if len(models) != 1:
        raise CheckpointError(f"{directory}: has {len(models)} SentencePiece models (*.model), not one")
    try:
        if models[0].stat().st_size > LARGEST_FILE:
            raise CheckpointError(f"{models[0]}: larger than {LARGEST_FILE >> 20} MiB, no SentencePiece model")
        return SensePieces(sentencepiece_pieces(models[0].read_bytes(), str(models[0])))
    except OSError as error:
        raise CheckpointError(f"{models[0]}: {error.strerror}") from None
