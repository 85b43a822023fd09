"""What Nemotron 3.5 Transcribe is asked, and what it answers with: words, and tags that name who says them.

Sources: the prompts of NeMo's speech language models and the model's card (NVIDIA 2026).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fun_asr.errors import CheckpointError
from fun_asr.models.qwen_tokenizer import QwenTokenizer

__all__ = ["REQUEST", "Prompts", "Turn", "check_vocabulary", "turns_of"]

# The order in which the model was taught to be asked; every word of it counts.
REQUEST = " ".join(
    (
        "Audio transcription.",
        "Language: as spoken.",
        "Wording: verbatim, including fillers and repetitions.",
        "Formatting: punctuation and capitalization.",
        "Output: transcript only.",
    )
)
BEGIN, END, AUDIO = "<|im_start|>", "<|im_end|>", "<|audio|>"
_SPEAKER = re.compile(r"<spk:(\d+)>", re.IGNORECASE)
_TAG = re.compile(r"<(?:spk:\d+|ev:[^<>]*|sty:[^<>]*)>", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """What one speaker says before another does."""

    speaker: str | None
    """Its number in the order in which speakers begin; None where no tag says who it is."""
    text: str


def turns_of(text: str) -> list[Turn]:
    """Parts a text at its speakers' tags; tags of events and styles are left out.

    >>> turns_of("<spk:0> Hi. <spk:1> Hello, <ev:laughter> you.")
    [Turn(speaker='0', text='Hi.'), Turn(speaker='1', text='Hello, you.')]
    """
    before, *rest = _SPEAKER.split(text)
    parts: list[tuple[str | None, str]] = [(None, before), *zip(rest[::2], rest[1::2], strict=True)]
    cleaned = [(speaker, " ".join(_TAG.sub(" ", said).split())) for speaker, said in parts]
    return [Turn(speaker and str(int(speaker)), said) for speaker, said in cleaned if said]


class Prompts:
    """The tokens around the speech.

    Arguments:
        tokenizer: the model's.

    Raises:
        CheckpointError: when it is another model's.
    """

    def __init__(self, tokenizer: QwenTokenizer) -> None:
        self._tokenizer = tokenizer
        self.stop = (tokenizer.special(END),)
        self._begin = tokenizer.special(BEGIN)
        self.silent = tuple(filter(None, (tokenizer.find(name) for name in (BEGIN, AUDIO))))
        """Tokens that no text has."""

    def around(self, request: str) -> tuple[list[int], list[int]]:
        """The tokens before the speech and after it.

        Arguments:
            request: what the model is asked; nothing in it is taken for a special token.
        """
        (end,), begin, encode = self.stop, self._begin, self._tokenizer.encode
        line = encode("\n")
        before = [begin, *encode("system\n"), end, *line, begin, *encode(f"user\n{request}")]
        return before, [end, *line, begin, *encode("assistant\n"), *self._thought()]

    def _thought(self) -> list[int]:
        """That it does not think before it writes."""
        marks = [self._tokenizer.find(name) for name in ("<think>", "</think>")]
        return [mark for mark in marks if mark is not None] if all(marks) else self._tokenizer.encode("<think></think>")

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens to text, speakers' tags among it."""
        parts, run = [], []
        for token in tokens:
            name = self._tokenizer.name(token)
            if name is None:
                run.append(token)
            elif _TAG.fullmatch(name):
                parts += [self._tokenizer.decode(run), name]
                run = []
        return " ".join([*parts, self._tokenizer.decode(run)])


def check_vocabulary(tokenizer: QwenTokenizer, size: int) -> None:
    """Raise where a vocabulary has no place in the network, but for the tokens beyond it that stand for audio."""
    if tokenizer.text_size > size:
        raise CheckpointError(f"the vocabulary has {tokenizer.text_size} tokens, the model {size}: it is another one's")
