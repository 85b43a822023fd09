"""Tokenizers: Whisper's multilingual byte-level BPE for the decoder, SentencePiece for the CTC head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import sentencepiece

from fun_asr.errors import CheckpointError
from fun_asr.text.languages import LANGUAGE_NAMES
from fun_asr.text.tokenizer_file import read_tokenizer


class Tokenizer:
    """The decoder's tokens: text and the special tokens that choose language and task.

    Arguments:
        path: a `tokenizer.json` of the tokenizers library with Whisper's special tokens.

    Raises:
        CheckpointError: when the file cannot be read or lacks a special token.
    """

    def __init__(self, path: Path) -> None:
        self._tokenizer = read_tokenizer(path)
        self._path = path
        self._find_specials()

    multilingual = True
    """Whether the model is told languages and tasks; Whisper's English-only models have the tokens and no use for
    them."""

    def _find_specials(self) -> None:
        self.sot = self._special("<|startoftranscript|>")
        self.eot = self._special("<|endoftext|>")
        self.transcribe = self._special("<|transcribe|>")
        self.no_timestamps = self._special("<|notimestamps|>")
        self.translate: int | None = self._tokenizer.token_to_id("<|translate|>")
        self.previous: int | None = self._tokenizer.token_to_id("<|startofprev|>")

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise CheckpointError(f"{self._path}: no token {token}")
        return int(number)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Language code to its token."""
        ids = {code: self._tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGE_NAMES}
        return {code: number for code, number in ids.items() if number is not None}

    @cached_property
    def captions(self) -> tuple[int, ...]:
        """Tokens that open a caption of something that is not speech: "[MUSIC]", "(laughs)", notes."""
        # In byte-level BPE a space is written Ġ, and the notes U+2669 to U+266C begin with these two letters.
        openers = ("[", "(", "{", "âĻ")
        vocabulary = self._tokenizer.get_vocab()
        return tuple(sorted(i for token, i in vocabulary.items() if token.lstrip("Ġ").startswith(openers)))

    def prompt(self, language: str) -> list[int]:
        """The tokens that start a transcript in `language` (a code)."""
        return [self.sot, self.languages[language], self.transcribe, self.no_timestamps]

    def prompts(self, initial_prompt: str, max_tokens: int, *, translate: bool) -> TaskPrompts:
        """What starts transcripts.

        Arguments:
            initial_prompt: text that the model takes for what came before.
            max_tokens: the longest sequence of the model; of a longer prompt the end is kept, in half of it.
            translate: whether English is written whatever is spoken.
        """
        text = self.encode(initial_prompt)
        before: tuple[int, ...] = ()
        if text and self.previous is not None:
            before = (self.previous, *text[-(max_tokens // 2 - 1) :])
        task = self.translate if translate and self.translate is not None else self.transcribe
        return TaskPrompts(self, before, task)

    def encode(self, text: str, *, leading_space: bool = True) -> list[int]:
        """Text to tokens, as written after the prompt: with a leading space, no special tokens."""
        text = text.strip()
        spaced = " " + text if leading_space else text
        return list(self._tokenizer.encode(spaced, add_special_tokens=False).ids) if text else []

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special tokens and outer spaces left out."""
        return str(self._tokenizer.decode([t for t in tokens if t < self.eot], skip_special_tokens=True)).strip()

    def split_words(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each word; a word starts where a token starts with a space."""
        starts = [i for i, token in enumerate(tokens) if i == 0 or token in self._word_starts]
        return [slice(a, b) for a, b in pairwise([*starts, len(tokens)])]

    def split_characters(self, tokens: Sequence[int]) -> list[slice]:
        """The tokens of each character, or of several that share them."""
        parts, start, spelled = [], 0, b""
        for i, token in enumerate(tokens):
            spelled += self.token_bytes[token]
            try:
                spelled.decode("utf-8")
            except UnicodeDecodeError:
                if i + 1 < len(tokens):
                    continue
            parts.append(slice(start, i + 1))
            start, spelled = i + 1, b""
        return parts

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The UTF-8 bytes that each text token stands for; a character may be spread over several tokens."""
        # Byte-level BPE writes the bytes that have no printable character of their own as U+0100 and up.
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = sorted(set(range(0x100)) - set(printable))
        byte_of = {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
        found = [b""] * self.eot
        for token, i in self._tokenizer.get_vocab().items():
            if i < self.eot:
                found[i] = bytes(byte_of[letter] for letter in token)
        return tuple(found)

    @cached_property
    def _word_starts(self) -> frozenset[int]:
        return frozenset(i for token, i in self._tokenizer.get_vocab().items() if token.startswith("Ġ"))


@dataclass(frozen=True)
class TaskPrompts:
    """The prompts of one call, for `fun_asr.decoding.generate`."""

    tokenizer: Tokenizer
    before: tuple[int, ...]
    task: int

    @property
    def without_text(self) -> TaskPrompts:
        """The same without what came before."""
        return replace(self, before=())

    @property
    def sot(self) -> int:
        """The token that every transcript starts with."""
        return self.tokenizer.sot

    @property
    def eot(self) -> int:
        """The token that ends it."""
        return self.tokenizer.eot

    @property
    def languages(self) -> Mapping[str, int]:
        """Language code to its token."""
        return self.tokenizer.languages

    def prompt(self, language: str) -> list[int]:
        """The tokens that start a transcript; English-only models are told neither language nor task."""
        if not self.tokenizer.multilingual:
            return [*self.before, self.sot, self.tokenizer.no_timestamps]
        spoken = self.languages.get(language, self.sot + 1)
        return [*self.before, self.sot, spoken, self.task, self.tokenizer.no_timestamps]


class CTCTokenizer:
    """The CTC head's vocabulary of lower-case spoken text; the blank is the index after its last piece.

    Raises:
        CheckpointError: when the SentencePiece model cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: no SentencePiece model ({error})") from None
        self.blank = int(self._pieces.get_piece_size())
        self.vocab_size = self.blank + 1

    def encode(self, text: str) -> list[int]:
        """Lower-case words to tokens."""
        return [int(token) for token in self._pieces.encode(text)]

    def lacking(self, text: str) -> str:
        """The letters of a text that no piece has, each once."""
        unknown = int(self._pieces.unk_id())
        letters = sorted(set(text)) if unknown in self._pieces.encode(text) else []
        return "".join(letter for letter in letters if unknown in self._pieces.encode(letter))

    @cached_property
    def word_starts(self) -> frozenset[int]:
        """The tokens with which a word starts."""
        return frozenset(i for i in range(self.blank) if self._pieces.id_to_piece(i).startswith("▁"))

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens, blanks left out, to text."""
        return str(self._pieces.decode([int(token) for token in tokens if token != self.blank]))


def train_ctc_tokenizer(text: Path, output: Path, pieces: int) -> CTCTokenizer:
    """Train a SentencePiece unigram model of `pieces` pieces on lower-case sentences and write it to `output`."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(output.with_suffix("")),
        vocab_size=pieces,
        model_type="unigram",
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    output.with_suffix(".vocab").unlink()
    return CTCTokenizer(output)
