"""When Whisper's words were said, by its cross-attention, and whether what is written twice was said twice.

Shapes: B segments, L encoder frames (20 ms), D width, N tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.attention_times import attention_weights, token_frames, without_pauses
from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.guard import repeated_end, said_once
from fun_asr.decoding.words import AlignedWord
from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.whisper.tokenizer import WhisperTokenizer
from fun_asr.text.tokenizer import TaskPrompts

__all__ = ["Encoded", "TextTimes", "timed_words", "unrepeated"]

FRAME = SAMPLE_RATE // ENCODER_FRAMES_PER_SECOND  # samples
LEAD = 3  # frames that attention is ahead of the sound: by 214 words of 14 development clips, beside CTC's times
SEGMENTS_AT_ONCE = 8  # whose attention is held: a megabyte a head and segment of 170 tokens


@dataclass(frozen=True)
class Encoded:
    """Segments after the encoder, all padded to the model's window."""

    encoded: Tensor
    """`[B, L, D]`."""
    samples: Sequence[int]
    """Of each segment, without padding."""

    def rows(self, places: Sequence[int]) -> Tensor:
        """The segments in `places`."""
        if len(places) == len(self.encoded):
            return self.encoded
        return self.encoded[torch.tensor(places, device=self.encoded.device)]


class TextTimes:
    """Finds the frames of the tokens of a batch's texts.

    Arguments:
        decoder, tokenizer: the model's.
        encoded: the segments.
        heads: layer and head of the attention that follows the words.
        prompts: what the texts start with.
        languages: of each segment.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: WhisperTokenizer,
        encoded: Encoded,
        heads: Sequence[tuple[int, int]],
        prompts: TaskPrompts,
        languages: Sequence[str],
    ) -> None:
        self._decoder = decoder
        self.tokenizer = tokenizer
        self._encoded = encoded
        self._heads = heads
        self._prompts = prompts
        self._languages = languages

    def of(self, places: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[int]]:
        """First frames of the tokens of a text for each segment in `places`, and of what follows its last token."""
        found: list[list[int]] = []
        for start in range(0, len(places), SEGMENTS_AT_ONCE):
            part = slice(start, start + SEGMENTS_AT_ONCE)
            found += self._of_few(places[part], texts[part])
        return found

    def _of_few(self, places: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[int]]:
        # Without what came before the transcript: it takes places, and changes little of where the heads look.
        prompts = [self._prompts.without_text.prompt(self._languages[place]) for place in places]
        room = self._decoder.config.max_tokens - len(prompts[0]) - 1
        texts = [text[:room] for text in texts]
        longest = max(map(len, texts))
        eot = self.tokenizer.eot
        rows = [
            [*prompt, *text, *[eot] * (longest - len(text) + 1)] for prompt, text in zip(prompts, texts, strict=True)
        ]
        encoded = self._encoded.rows(places)
        weights = attention_weights(
            self._decoder, torch.tensor(rows, device=encoded.device), encoded, None, self._heads
        )
        return [
            token_frames(row, len(prompt), len(text), -(-self._encoded.samples[place] // FRAME)).tolist()
            for row, prompt, text, place in zip(weights, prompts, texts, places, strict=True)
        ]


def timed_words(
    tokenizer: WhisperTokenizer, found: Hypothesis, starts: Sequence[int], samples: npt.NDArray[np.float32]
) -> list[AlignedWord]:
    """The words of a text, as `written_words` gives them, with their places in a segment.

    Arguments:
        tokenizer: the model's.
        found: the text.
        starts: first frame of each token and of what follows the last.
        samples: of the segment, float32 `[samples]`.
    """
    texts: list[tuple[str, tuple[float, ...]]] = []
    edges: list[int] = []
    end = 0
    for part in tokenizer.split_words(found.tokens):
        pieces = tokenizer.decode(found.tokens[part]).split()
        # Tokens that did not fit the decoder have no places: they follow the last that has one.
        first, end = (
            min((starts[min(at, len(starts) - 1)] + LEAD) * FRAME, len(samples)) for at in (part.start, part.stop)
        )
        edges += np.linspace(first, end, len(pieces) + 1).astype(int).tolist()[:-1]
        texts += [(text, tuple(found.log_probs[part])) for text in pieces]
    if not texts:
        return []
    spans = without_pauses([*edges, end], samples)
    return [AlignedWord(text, *span, log_probs, ()) for (text, log_probs), span in zip(texts, spans, strict=True)]


def unrepeated(hypotheses: Sequence[Hypothesis], times: TextTimes) -> list[int | None]:
    """For each text that ends in a copy of what comes before it and was said once, how many tokens are no copy.

    None for all others. Arguments: the texts of a batch; what finds their times in it.
    """
    kept: list[int | None] = [None] * len(hypotheses)
    ends: dict[int, tuple[int, int]] = {}  # the first tokens of sentence and copy
    for b, found in enumerate(hypotheses):
        spelled = [(place, _compared(times.tokenizer, token)) for place, token in enumerate(found.tokens)]
        pieces = [(place, letters) for place, letters in spelled if letters]
        n = repeated_end([letters for _, letters in pieces])
        if n:
            ends[b] = pieces[-2 * n][0], pieces[-n][0]
    if ends:
        found_starts = times.of(list(ends), [hypotheses[b].tokens for b in ends])
        for (b, (first, copy)), starts in zip(ends.items(), found_starts, strict=True):
            if copy < len(starts) and said_once(starts[copy] - starts[first], starts[-1] - starts[copy]):
                kept[b] = copy
    return kept


def _compared(tokenizer: WhisperTokenizer, token: int) -> bytes:
    """A token's letters and digits without case; empty for punctuation alone."""
    text = tokenizer.token_bytes[token]
    try:
        letters = "".join(letter for letter in text.decode("utf-8").lower() if letter.isalnum())
    except UnicodeDecodeError:  # a part of a character
        return text
    return letters.encode()
