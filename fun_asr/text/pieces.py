"""Vocabularies of published CTC and transducer models: SentencePiece models, or tokenizers in JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import sentencepiece

from fun_asr.errors import CheckpointError
from fun_asr.text.tokenizer_file import read_tokenizer

__all__ = ["Pieces", "json_pieces", "sentencepiece_pieces"]

SPACES = ("▁", "Ġ", " ")
"""With which a piece at the start of a word begins: SentencePiece's, byte-level BPE's, a plain one."""

_Encode = Callable[[str], list[int]]
_Decode = Callable[[Sequence[int]], str]


class Pieces:
    """A vocabulary of pieces.

    Arguments:
        pieces: the text of each, its leading space written as one of `SPACES`; None for a special token.
        encode: text to tokens.
        decode: tokens, none of them special, to text.
    """

    def __init__(self, pieces: Sequence[str | None], encode: _Encode, decode: _Decode) -> None:
        self._pieces = pieces
        self._decode = decode
        self.encoded = encode
        """Text to tokens, unknown ones too."""
        self._letters: dict[str, bool] = {}
        self.word_starts = frozenset(
            number for number, piece in enumerate(pieces) if piece is not None and piece.startswith(SPACES)
        )
        """The tokens with which a word starts."""

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def has_capitals(self) -> bool:
        """Whether it can write sentences, not bare lower-case words alone."""
        return any(piece is not None and piece != piece.lower() for piece in self._pieces)

    def piece(self, number: int) -> str | None:
        """The text of a piece; None for a special token."""
        return self._pieces[number]

    def find(self, piece: str) -> int | None:
        """The number of a piece; None where there is none."""
        return next((number for number, known in enumerate(self._pieces) if known == piece), None)

    def encode(self, text: str) -> list[int] | None:
        """The tokens of a text; None where it has a letter that no piece has."""
        tokens = self.encoded(text)
        return None if any(self._pieces[token] is None for token in tokens) else tokens

    def lacking(self, text: str) -> str:
        """The letters of a text that no piece has, each once."""
        return "".join(letter for letter in sorted(set(text)) if not letter.isspace() and not self._writes(letter))

    def _writes(self, letter: str) -> bool:
        """Whether there are pieces of a letter; some tokenizers leave out what they do not know."""
        if letter not in self._letters:
            tokens = self.encode(letter)
            self._letters[letter] = tokens is not None and bool(self.decode(tokens))
        return self._letters[letter]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, without special ones and outer spaces."""
        known = [token for token in tokens if token < len(self._pieces) and self._pieces[token] is not None]
        return self._decode(known).strip()

    def split_words(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each word."""
        starts = [place for place, token in enumerate(tokens) if place == 0 or token in self.word_starts]
        return [slice(a, b) for a, b in pairwise([*starts, len(tokens)])]


def sentencepiece_pieces(model: bytes, where: str) -> Pieces:
    """The pieces of a SentencePiece model.

    Arguments:
        model: the file's bytes.
        where: its name, for messages.

    Raises:
        CheckpointError: when it is none.
    """
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        size = int(processor.get_piece_size())
        texts = [
            None
            if processor.is_unknown(i) or processor.is_control(i) or processor.is_unused(i)
            else str(processor.id_to_piece(i))
            for i in range(size)
        ]
    except (OSError, RuntimeError, UnicodeDecodeError, IndexError) as error:
        raise CheckpointError(f"{where}: no SentencePiece model ({str(error)[:100] or type(error).__name__})") from None
    if size == 0:
        raise CheckpointError(f"{where}: a SentencePiece model without pieces")
    return Pieces(
        texts,
        lambda text: [int(token) for token in processor.encode(text)],
        lambda tokens: str(processor.decode([int(token) for token in tokens])),
    )


def json_pieces(path: Path) -> Pieces:
    """The pieces of a `tokenizer.json`.

    Raises:
        CheckpointError: when it cannot be read.
    """
    tokenizer = read_tokenizer(path)
    numbers = tokenizer.get_vocab(with_added_tokens=True)
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    size = max(numbers.values(), default=-1) + 1
    if not 0 < size <= 4 * len(numbers) + 1024:
        raise CheckpointError(f"{path}: {len(numbers)} pieces, numbered up to {size - 1}")
    texts: list[str | None] = [None] * size
    for piece, number in numbers.items():
        if number not in special:
            texts[number] = piece
    return Pieces(
        texts,
        lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids),
        lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=True)),
    )
