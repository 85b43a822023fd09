"""When a text's words were said, by the decoder's cross-attention, and whether what is written twice was said twice.

Shapes: B segments, L encoder frames (20 ms), D width, N tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.decoding.attention_times import TokenFrames, attention_weights, token_frames, without_pauses
from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.guard import repeated_end, said_once
from fun_asr.decoding.words import AlignedWord
from fun_asr.drafts import Draft
from fun_asr.layers.decoder import Decoder, DecoderConfig
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.text.tokenizer import TaskPrompts, Tokenizer
from fun_asr.transcript import WRITTEN_WITHOUT_SPACES, Word
from fun_asr.transcript.words import holds_on

__all__ = [
    "AlignmentHeads",
    "EncodedSegments",
    "TextTimes",
    "attended_words",
    "later_heads",
    "long_pauses",
    "timed_words",
    "unrepeated",
]

FRAME = SAMPLE_RATE // ENCODER_FRAMES_PER_SECOND  # samples
LONG_PAUSE = 8000  # samples = 0.5 s; within a word the detector may miss less
BLIP = 1600  # samples = 0.1 s of speech between two long pauses, in which no word is said
SOFT = 2400  # samples = 0.15 s of soft endings and onsets that the detector may take for pause
SEGMENTS_AT_ONCE = 8  # whose attention is held: a megabyte a head and segment of 170 tokens


@dataclass(frozen=True)
class AlignmentHeads:
    """Heads of the cross-attention that look at each token where it is said."""

    heads: tuple[tuple[int, int], ...]
    """Layer and head of each, at least one."""
    lead: int
    """Frames that they are ahead of the sound; negative where they are behind."""


def later_heads(config: DecoderConfig) -> tuple[tuple[int, int], ...]:
    """Layer and head of all cross-attention in the later half of a decoder: what is taken where none are published."""
    layers = range(config.num_layers // 2, config.num_layers)
    return tuple((layer, head) for layer in layers for head in range(config.num_heads))


@dataclass(frozen=True)
class EncodedSegments:
    """Segments after the encoder."""

    encoded: Tensor
    """`[B, L, D]`."""
    samples: Sequence[int]
    """Of each segment, without padding."""
    lengths_B: Tensor | None = None
    """Valid frames of each, int64; None where the padding was heard too, as Whisper hears it."""
    pauses: Sequence[Sequence[tuple[int, int]]] = ()
    """The `long_pauses` of each."""

    @classmethod
    def of(cls, segments: Sequence[AudioSegment], encoded: Tensor, lengths_B: Tensor | None = None) -> EncodedSegments:
        """Segments after the encoder, `[B, L, D]`, and their valid frames."""
        lengths = [len(segment.samples) for segment in segments]
        return cls(encoded, lengths, lengths_B, [long_pauses(segment) for segment in segments])

    def rows(self, places: Sequence[int]) -> Tensor:
        """The segments in `places`."""
        if len(places) == len(self.encoded):
            return self.encoded
        return self.encoded[torch.tensor(places, device=self.encoded.device)]

    def lengths(self, places: Sequence[int]) -> Tensor | None:
        """Valid frames of the segments in `places`; None where all are."""
        return None if self.lengths_B is None else self.lengths_B[torch.tensor(places, device=self.encoded.device)]


class TextTimes:
    """Finds the frames of the tokens of a batch's texts.

    Arguments:
        decoder, tokenizer: the model's.
        encoded: the segments.
        heads: the attention that follows the words.
        prompts: what the texts start with.
        languages: of each segment.
        written_in: of each segment's text; the same by default.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        encoded: EncodedSegments,
        heads: AlignmentHeads,
        prompts: TaskPrompts,
        languages: Sequence[str],
        written_in: Sequence[str] | None = None,
    ) -> None:
        self._decoder = decoder
        self.tokenizer = tokenizer
        self._encoded = encoded
        self._heads = heads
        self._prompts = prompts
        self._languages = languages
        self._written_in = languages if written_in is None else written_in

    def of(self, places: Sequence[int], texts: Sequence[Sequence[int]]) -> list[TokenFrames]:
        """For each segment in `places`, the frames of a text's tokens: no word lies over a long pause."""
        found: list[TokenFrames] = []
        for start in range(0, len(places), SEGMENTS_AT_ONCE):
            part = slice(start, start + SEGMENTS_AT_ONCE)
            found += self._of_few(places[part], texts[part])
        return found

    def _of_few(self, places: Sequence[int], texts: Sequence[Sequence[int]]) -> list[TokenFrames]:
        # Without what came before the transcript: it takes places, and changes little of where the heads look.
        prompts = [self._prompts.without_text.prompt(self._languages[place]) for place in places]
        room = self._decoder.config.max_tokens - len(prompts[0]) - 1
        texts = [text[:room] for text in texts]
        longest = max(map(len, texts))
        eot = self.tokenizer.eot
        rows = [
            [*prompt, *text, *[eot] * (longest - len(text) + 1)] for prompt, text in zip(prompts, texts, strict=True)
        ]
        encoded, lengths_B = self._encoded.rows(places), self._encoded.lengths(places)
        weights = attention_weights(
            self._decoder,
            torch.tensor(rows, device=encoded.device),
            encoded,
            None if lengths_B is None else self._decoder.memory_mask(lengths_B, encoded.shape[1]),
            self._heads.heads,
        )
        lead = self._heads.lead
        found = []
        for row, prompt, text, place in zip(weights, prompts, texts, places, strict=True):
            frames = -(-self._encoded.samples[place] // FRAME)
            pauses = [
                (-(-start // FRAME) - lead, end // FRAME - lead)
                for start, end in (self._encoded.pauses[place] if self._encoded.pauses else ())
            ]
            begins = self._begins(text, self._written_in[place]) if pauses else None
            placed = token_frames(row, len(prompt), len(text), frames, pauses, begins)
            found.append(TokenFrames(placed.starts + lead, placed.ends + lead))
        return found

    def _begins(self, text: Sequence[int], language: str) -> list[bool]:
        """Whether each token of a text begins a word, or a character that is said."""
        begins = [False] * len(text)
        if language in WRITTEN_WITHOUT_SPACES:
            before = ""
            for part in self.tokenizer.split_characters(text):
                characters = self.tokenizer.decode(text[part])
                begins[part.start] = characters[:1].isspace() or not holds_on(before[-1:], characters[:1])
                before = characters or before
        else:
            for part in self.tokenizer.split_words(text):
                begins[part.start] = True
        return begins


def long_pauses(segment: AudioSegment) -> list[tuple[int, int]]:
    """Stretches of a segment, in its samples, in which certainly nobody speaks; none where no detector was asked."""
    joined: list[tuple[int, int]] = []
    for start, end in segment.pauses:
        if end - start < LONG_PAUSE:
            continue
        if joined and start - joined[-1][1] <= BLIP:
            start = joined.pop()[0]
        joined.append((start, end))
    first = segment.span.start
    return [(start + SOFT - first, end - SOFT - first) for start, end in joined]


def timed_words(
    tokenizer: Tokenizer,
    found: Hypothesis,
    placed: TokenFrames,
    segment: AudioSegment,
    language: str | None = None,
) -> list[AlignedWord]:
    """The words of a text, as `written_words` gives them, with their places in a segment.

    In a language without spaces they are characters, those that share a token in equal parts of its time.

    Arguments:
        tokenizer: the model's.
        found: the text.
        placed: the frames of its tokens.
        segment: with its samples.
        language: code of the text's.
    """
    samples = segment.samples
    spaced = language not in WRITTEN_WITHOUT_SPACES
    texts: list[tuple[str, tuple[float, ...]]] = []
    spans: list[tuple[int, int]] = []
    known = len(placed.ends)  # tokens that did not fit the decoder have no places: they follow the last that has one
    split = tokenizer.split_words if spaced else tokenizer.split_characters
    for part in split(found.tokens):
        text = tokenizer.decode(found.tokens[part])
        pieces = text.split() if spaced else [character for character in text if not character.isspace()]
        if part.start < known:
            first, end = placed.starts[part.start], placed.ends[min(part.stop, known) - 1]
        else:
            first = end = placed.starts[-1]
        first, end = (min(max(0, int(frame)) * FRAME, len(samples)) for frame in (first, end))
        edges = np.linspace(first, end, len(pieces) + 1)
        spans += pairwise(edges.astype(int).tolist())
        texts += [(text, tuple(found.log_probs[part])) for text in pieces]
    spans = without_pauses(spans, samples, long_pauses(segment))
    return [AlignedWord(text, *span, log_probs, None) for (text, log_probs), span in zip(texts, spans, strict=True)]


def attended_words(times: TextTimes, text: str, segment: AudioSegment, span: Span, language: str) -> tuple[Word, ...]:
    """The words of a given text where cross-attention finds them; nothing says how likely each is.

    Arguments:
        times: of the batch, whose first segment it is.
        text: at least one word.
        segment: the segment, with what was put around it.
        span: of it without; no word lies outside.
        language: code of the text's.
    """
    tokens = times.tokenizer.encode(text)
    (placed,) = times.of([0], [tokens])
    found = Hypothesis(tokens, 0.0, language, None, [0.0] * len(tokens))
    timed = timed_words(times.tokenizer, found, placed, segment, language)
    words = Draft([], score=0.0, timed=timed).words_from(segment.span.start, span, SAMPLE_RATE)
    return tuple(replace(word, confidence=None) for word in words)


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
        found_frames = times.of(list(ends), [hypotheses[b].tokens for b in ends])
        for (b, (first, copy)), placed in zip(ends.items(), found_frames, strict=True):
            starts = placed.starts.tolist()
            if copy < len(starts) and said_once(starts[copy] - starts[first], starts[-1] - starts[copy]):
                kept[b] = copy
    return kept


def _compared(tokenizer: Tokenizer, token: int) -> bytes:
    """A token's letters and digits without case; empty for punctuation alone."""
    text = tokenizer.token_bytes[token]
    try:
        letters = "".join(letter for letter in text.decode("utf-8").lower() if letter.isalnum())
    except UnicodeDecodeError:  # a part of a character
        return text
    return letters.encode()
