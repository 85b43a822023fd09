"""Byte-level BPE whose merges are given by ranks, as the tiktoken library stores it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel

from fun_asr.errors import CheckpointError

__all__ = ["RankedBPE"]

LARGEST_FILE = 64 * 2**20  # bytes


def _bytes_of_letters() -> dict[str, int]:
    """Byte-level BPE writes the bytes that have no printable character of their own as U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(0x100)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


class RankedBPE:
    """Text to tokens and back.

    Arguments:
        path: a `.tiktoken` file: a token in base64 and its rank, which is its number, on each line.

    Raises:
        CheckpointError: when it is damaged, or a byte has no token.
    """

    def __init__(self, path: Path) -> None:
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise CheckpointError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, no vocabulary")
            lines = path.read_bytes().splitlines()
            pairs = [line.split() for line in lines if line.strip()]
            self._ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from None
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(f"{path}: no vocabulary of tiktoken ({str(error)[:100]})") from None
        self._tokens = {rank: token for token, rank in self._ranks.items()}
        if len(self._tokens) < len(self._ranks) or not all(bytes([byte]) in self._ranks for byte in range(256)):
            raise CheckpointError(f"{path}: damaged: a rank comes twice, or a byte has no token")
        self._letters = _bytes_of_letters()
        # Splits words, numbers and the rest exactly as tiktoken's pattern does.
        self._words = ByteLevel(add_prefix_space=False)

    def __len__(self) -> int:
        return len(self._ranks)

    def token(self, number: int) -> bytes:
        """What a token stands for; a character may be spread over several tokens, and is nothing without them."""
        return self._tokens.get(number, b"")

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special ones left out."""
        return b"".join(map(self.token, tokens)).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Text to tokens, none of them special."""
        found: list[int] = []
        for word, _ in self._words.pre_tokenize_str(text):
            found += self._merged(bytes(self._letters[letter] for letter in word))
        return found

    def _merged(self, word: bytes) -> list[int]:
        """The pair with the lowest rank is joined until none is left (Sennrich et al. 2016)."""
        parts = [word[i : i + 1] for i in range(len(word))]
        while len(parts) > 1:
            joined = [a + b for a, b in pairwise(parts)]
            place = min(range(len(joined)), key=lambda i: self._ranks.get(joined[i], len(self._ranks) << 1))
            if joined[place] not in self._ranks:
                break
            parts[place : place + 2] = [joined[place]]
        return [self._ranks[part] for part in parts]
