"""Qwen3-ForcedAligner: when the words of a text are said, in one pass over audio and text.

The text is read with two marks behind each word; the classes that the model gives to these marks are where the word
starts and ends, in steps of 80 ms. Source: the Qwen3-ASR technical report (2026).

Shapes: N positions of all segments.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.errors import CheckpointError
from fun_asr.models.qwen3.features import clip_log_mel
from fun_asr.models.qwen3.load import load_network, read_config
from fun_asr.models.qwen3.network import Qwen3
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.weights.assemble import language_model_compute_type
from fun_asr.weights.sources import open_safetensors

__all__ = ["ALIGNED_LANGUAGES", "ForcedAligner", "load_aligner", "monotone", "word_units"]

ALIGNED_LANGUAGES = frozenset({"zh", "en", "yue", "fr", "de", "it", "ja", "ko", "pt", "ru", "es"})
MARK = "<timestamp>"
FEW_OUTLIERS = 2

# Written without spaces, a word a character: the ideographs.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def word_units(word: str) -> list[str]:
    """What of a written word is said, in the pieces that are timed: ideographs one by one, all else together.

    >>> word_units("it's,")
    ["it's"]
    >>> word_units("AI时代。")
    ['AI', '时', '代']
    """
    units: list[str] = []
    new = True
    for letter in word:
        ideograph = any(low <= ord(letter) <= high for low, high in _IDEOGRAPHS)
        if not (ideograph or letter == "'" or unicodedata.category(letter)[0] in "LN"):
            continue
        if ideograph or new:
            units.append(letter)
        else:
            units[-1] += letter
        new = ideograph
    return units


def monotone(places: Sequence[int]) -> list[int]:
    """Places in time in an order that can be, those that fit no order taken from their neighbours.

    What belongs to the longest sequence that never falls is believed. Of others, up to two in a row take the nearer
    believed neighbour's place, and more are spread evenly between both.

    >>> monotone([1, 9, 3, 4])
    [1, 1, 3, 4]
    """
    longest = [1] * len(places)
    before: list[int | None] = [None] * len(places)
    for i, place in enumerate(places):
        for j in range(i):
            if places[j] <= place and longest[j] + 1 > longest[i]:
                longest[i], before[i] = longest[j] + 1, j
    at: int | None = max(range(len(places)), key=longest.__getitem__, default=None)
    believed: list[int] = []
    while at is not None:
        believed.append(at)
        at = before[at]
    believed.reverse()
    fixed = list(places)
    for left, right in pairwise([-1, *believed, len(places)]):
        low = places[left] if left >= 0 else None
        high = places[right] if right < len(places) else None
        count = right - left - 1
        for rank in range(1, count + 1):
            if low is None or high is None:
                known = high if low is None else low
                assert known is not None  # at least one place is believed
                fixed[left + rank] = known
            elif count <= FEW_OUTLIERS:
                fixed[left + rank] = low if rank <= count + 1 - rank else high
            else:
                fixed[left + rank] = int(low + (high - low) / (count + 1) * rank)
    return fixed


class ForcedAligner:
    """Finds when words are said.

    Arguments:
        network: an aligner.
        tokenizer: its.
        device: the network's.

    Raises:
        CheckpointError: when the vocabulary lacks a special token.
    """

    def __init__(self, network: Qwen3, tokenizer: QwenTokenizer, device: torch.device) -> None:
        self.network = network
        self._tokenizer, self._device = tokenizer, device
        self._start, self._end = tokenizer.special("<|audio_start|>"), tokenizer.special("<|audio_end|>")
        known = tokenizer.find(MARK)
        self._mark = network.config.timestamp if known is None else known
        if self._mark is None:
            raise CheckpointError("the aligner's vocabulary has no token <timestamp>")

    @torch.inference_mode()
    def times(
        self, waves: Sequence[npt.NDArray[np.float32]], units: Sequence[Sequence[str]]
    ) -> list[list[tuple[int, int]]]:
        """First sample, and one past the last, of each unit of each text.

        Arguments:
            waves: mono 16 kHz audio of each segment, float32 `[samples]`.
            units: of each segment's text, at least one, as `word_units` gives them.
        """
        model = self.network.language_model
        n_mels = self.network.config.audio.n_mels
        features = [clip_log_mel(wave, n_mels=n_mels, device=self._device) for wave in waves]
        vectors_NO, counts = self.network.encoder(features)
        parts: list[Tensor] = []
        lengths: list[int] = []
        marks: list[int] = []
        assert self._mark is not None
        for vectors, row in zip(vectors_NO.split(counts), units, strict=True):
            after = [self._end]
            for unit in row:
                after += [*self._tokenizer.encode(unit), self._mark, self._mark]
            tokens = torch.tensor([self._start, *after], device=self._device)
            embedded = model.embed(tokens)
            parts += [embedded[:1], vectors.to(embedded.dtype), embedded[1:]]
            first = sum(lengths) + len(vectors)
            marks += [first + place for place, token in enumerate(tokens.tolist()) if token == self._mark]
            lengths.append(len(tokens) + len(vectors))
        hidden_ND = model(torch.cat(parts), lengths)
        assert self.network.score is not None
        labels = self.network.score(hidden_ND[marks]).float().argmax(dim=-1).tolist()
        found, first = [], 0
        step = self.network.config.label_seconds * 1000
        for wave, row in zip(waves, units, strict=True):
            milliseconds = monotone([round(label * step) for label in labels[first : first + 2 * len(row)]])
            first += 2 * len(row)
            samples = [min(place * SAMPLE_RATE // 1000, len(wave)) for place in milliseconds]
            found.append(list(zip(samples[::2], samples[1::2], strict=True)))
        return found


def load_aligner(folder: Path, device: torch.device, compute_type: str) -> ForcedAligner:
    """Load an aligner.

    Arguments:
        folder: with `config.json`, `model.safetensors` or its shards, and the vocabulary.
        device: where it computes.
        compute_type: of its language model, a name as of a model's options.

    Raises:
        CheckpointError: when a file is missing or damaged, or the model is no aligner.
        ConfigError: for a compute type that the device does not have.
    """
    read_config(folder)  # a folder of another kind is named before its weights are looked for
    kind = language_model_compute_type(compute_type, device, open_safetensors(folder))
    network = load_network(folder, [device], kind)
    if network.score is None:
        raise CheckpointError(f"{folder}: is no forced aligner, which labels what it reads")
    return ForcedAligner(network, QwenTokenizer(folder), device)
