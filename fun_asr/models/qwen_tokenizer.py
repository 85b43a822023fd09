"""Qwen's tokens: byte-level BPE, and special tokens that mark turns, audio and what a model is to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from fun_asr.errors import CheckpointError
from fun_asr.weights.sources import read_json

__all__ = ["QwenTokenizer"]

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILE, MERGES_FILE, SPECIAL_FILE = "vocab.json", "merges.txt", "tokenizer_config.json"
LARGEST_FILE = 64 * 2**20  # bytes

# How Qwen parts a text before it is encoded: contractions, words, single digits, signs, lines, spaces.
_PARTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class QwenTokenizer:
    """The tokens of a published model.

    Arguments:
        folder: has `tokenizer.json`, or `vocab.json`, `merges.txt` and `tokenizer_config.json`.

    Raises:
        CheckpointError: when there is no vocabulary, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / TOKENIZER_FILE
        if self._path.exists():
            values = read_json(self._path)
            added = values.get("added_tokens")
            # Without them: what a user writes in a prompt stays text, whatever it looks like.
            self._text = self._parsed(json.dumps({**values, "added_tokens": []}))
            self._special = self._listed(added if isinstance(added, list) else [])
        elif (folder / VOCABULARY_FILE).exists() and (folder / MERGES_FILE).exists():
            self._path = folder / VOCABULARY_FILE
            self._text = self._from_vocabulary(folder)
            self._special = self._configured(folder)
        else:
            raise CheckpointError(
                f"{folder}: no vocabulary beside the weights; put the model's {TOKENIZER_FILE}, or {VOCABULARY_FILE}, "
                f"{MERGES_FILE} and {SPECIAL_FILE}, there"
            )
        self._names = {number: name for name, number in self._special.items()}

    def _parsed(self, text: str) -> HuggingFaceTokenizer:
        try:
            return HuggingFaceTokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{self._path}: no tokenizer ({str(error)[:100]})") from None

    def _from_vocabulary(self, folder: Path) -> HuggingFaceTokenizer:
        for name in (VOCABULARY_FILE, MERGES_FILE):
            if (folder / name).stat().st_size > LARGEST_FILE:
                raise CheckpointError(f"{folder / name}: larger than {LARGEST_FILE >> 20} MiB, no vocabulary")
        try:
            model = models.BPE.from_file(str(folder / VOCABULARY_FILE), str(folder / MERGES_FILE))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{self._path}: no vocabulary ({str(error)[:100]})") from None
        tokenizer = HuggingFaceTokenizer(model)
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PARTS), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def _configured(self, folder: Path) -> dict[str, int]:
        path = folder / SPECIAL_FILE
        tokens = read_json(path).get("added_tokens_decoder") if path.exists() else None
        if not isinstance(tokens, dict):
            raise CheckpointError(f"{path}: lists no special tokens")
        numbered = [{**entry, "id": number} for number, entry in tokens.items() if isinstance(entry, dict)]
        return self._listed(numbered)

    def _listed(self, entries: Sequence[object]) -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in entries:
            if isinstance(entry, dict) and isinstance(entry.get("content"), str):
                try:
                    found[entry["content"]] = int(entry["id"])
                except (KeyError, TypeError, ValueError):
                    raise CheckpointError(f"{self._path}: an added token has no number") from None
        return found

    def __len__(self) -> int:
        """One more than the largest number of a token."""
        return 1 + max([*self._special.values(), *self._text.get_vocab().values()], default=-1)

    def special(self, name: str) -> int:
        """The number of a special token.

        Raises:
            CheckpointError: when there is none of that name.
        """
        number = self.find(name)
        if number is None:
            raise CheckpointError(f"{self._path}: no token {name}; it is another model's vocabulary")
        return number

    def find(self, name: str) -> int | None:
        """The number of a special token; None where there is none of that name."""
        return self._special.get(name)

    @property
    def text_size(self) -> int:
        """One more than the largest number of a token that is not special."""
        return 1 + max(
            (number for token, number in self._text.get_vocab().items() if token not in self._special), default=-1
        )

    def name(self, number: int) -> str | None:
        """A special token's name; None for the others."""
        return self._names.get(number)

    def encode(self, text: str) -> list[int]:
        """Text to tokens; nothing in it is taken for a special token."""
        return list(self._text.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special ones and outer spaces left out."""
        return str(self._text.decode([token for token in tokens if token not in self._names])).strip()

    def split_words(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each word; a word starts where a token starts with a space."""
        starts = [place for place, token in enumerate(tokens) if place == 0 or token in self._word_starts]
        return [slice(a, b) for a, b in pairwise([*starts, len(tokens)])]

    @cached_property
    def _word_starts(self) -> frozenset[int]:
        # In byte-level BPE a space is written Ġ.
        return frozenset(number for token, number in self._text.get_vocab().items() if token.startswith("Ġ"))
