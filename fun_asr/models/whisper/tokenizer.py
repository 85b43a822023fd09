"""Whisper's tokens as they are published, and the prompts that tell a model what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from fun_asr.errors import CheckpointError
from fun_asr.text.languages import LANGUAGE_NAMES
from fun_asr.text.tokenizer import Tokenizer
from fun_asr.weights.sources import read_json

__all__ = ["WhisperTokenizer"]

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
ADDED_FILE = "added_tokens.json"

# What the models before and after large-v3 call the same token.
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
# large-v3 added one language, after all the others.
_LANGUAGES = (*LANGUAGE_NAMES, "yue")
_AFTER_LANGUAGES = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")

# Signs that open or hold what is no speech, written alone or after a space: they are not to be written.
_SIGNS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    "<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))", "[[", "]]", "{{", "}}",
    "♪♪", "♪♪♪",
)  # fmt: skip
_NOTES = "♩♪♫♬♭♮♯"
"""Of these already the first token, which they share, is left out."""


class WhisperTokenizer(Tokenizer):
    """The tokens of a published model.

    Arguments:
        folder: has `tokenizer.json`, or `vocab.json` and `merges.txt`.
        vocab_size: the model's.
        multilingual: whether it knows languages and tasks; English-only models have the tokens and no use for them.

    Raises:
        CheckpointError: when there is no vocabulary, it is damaged, or another model's.
    """

    def __init__(self, folder: Path, *, vocab_size: int, multilingual: bool) -> None:
        path = folder / TOKENIZER_FILE
        if path.exists():
            super().__init__(path)
        elif (folder / VOCABULARY_FILE).exists() and (folder / MERGES_FILE).exists():
            self._path = folder / VOCABULARY_FILE
            self._tokenizer = _from_vocabulary(folder, vocab_size, multilingual=multilingual)
            self._find_specials()
        else:
            raise CheckpointError(
                f"{folder}: no vocabulary beside the weights; put the model's {TOKENIZER_FILE}, or {VOCABULARY_FILE} "
                f"and {MERGES_FILE}, there"
            )
        if self.no_timestamps >= vocab_size:
            raise CheckpointError(f"{self._path}: has more tokens than the model; it belongs to another one")
        self.multilingual = multilingual
        found = (self._tokenizer.token_to_id(name) for name in _NO_SPEECH)
        self.no_speech: int | None = next((token for token in found if token is not None), None)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Language code to its token; empty for a model that knows English only."""
        if not self.multilingual:
            return {}
        ids = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in _LANGUAGES}
        return {code: number for code, number in ids.items() if number is not None}

    @cached_property
    def no_speech_signs(self) -> tuple[int, ...]:
        """Tokens of signs that are not spoken, for models of which no list is published."""
        encoded = {sign: (self._plain(sign), self._plain(" " + sign)) for sign in (*_SIGNS, *_NOTES)}
        found = {self._plain(" -")[0], self._plain(" '")[0]}
        for sign, ways in encoded.items():
            found |= {tokens[0] for tokens in ways if tokens and (len(tokens) == 1 or sign in _NOTES)}
        return tuple(sorted(found))

    @cached_property
    def blanks(self) -> tuple[int, ...]:
        """What a text never starts with: a space alone, and its end."""
        return (*self._plain(" ")[:1], self.eot)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _from_vocabulary(folder: Path, vocab_size: int, *, multilingual: bool) -> HuggingFaceTokenizer:
    """The tokenizer of `vocab.json` and `merges.txt`, as they were published before `tokenizer.json`."""
    vocabulary = read_json(folder / VOCABULARY_FILE)
    try:
        merges = _merges((folder / MERGES_FILE).read_text(encoding="utf-8").splitlines())
        added = read_json(folder / ADDED_FILE) if (folder / ADDED_FILE).exists() else {}
        special = added or _specials(vocabulary, vocab_size, multilingual=multilingual)
        pieces = {token: number for token, number in vocabulary.items() if not _is_special(token)}
        tokenizer = HuggingFaceTokenizer(models.BPE(vocab=pieces, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        ordered = sorted({**{t: n for t, n in vocabulary.items() if _is_special(t)}, **special}.items(), key=_number)
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, _ in ordered])
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / MERGES_FILE}: cannot be read ({error})") from None
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{folder / VOCABULARY_FILE}: no vocabulary ({error})") from None
    for token, number in ordered:
        if tokenizer.token_to_id(token) != number:
            raise CheckpointError(f"{folder / VOCABULARY_FILE}: the tokens before {token} are not complete")
    return tokenizer


def _number(item: tuple[str, int]) -> int:
    return item[1]


def _is_special(token: str) -> bool:
    return token.startswith("<|") and token.endswith("|>")


def _merges(lines: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _specials(vocabulary: Mapping[str, int], vocab_size: int, *, multilingual: bool) -> dict[str, int]:
    """The special tokens where none are listed: in Whisper's order, from the end of text on."""
    first = vocabulary.get("<|endoftext|>", len(vocabulary))
    # All models have 1501 time stamps after them.
    languages = vocab_size - first - 2 - len(_AFTER_LANGUAGES) - 1501 if multilingual else 99
    codes = _LANGUAGES[: max(0, languages)]
    names = ["endoftext", "startoftranscript", *codes, *_AFTER_LANGUAGES]
    return {f"<|{name}|>": first + place for place, name in enumerate(names)}
