"""The network that restores punctuation and case: word and affix vectors under a stack of gated convolutions.

Each output sees a fixed number of words to either side (`PunctuationConfig.reach`), so a text of any length can be cut
into windows that overlap by that much, with the same result. Shapes: B rows, T words, D width, A affixes of a word.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.model.checkpoint import SCALE_SUFFIX, dequantize, quantize
from fun_asr.model.config import from_mapping

CONFIG_FILE, WORDS_FILE, WEIGHTS_FILE = "config.json", "words.json", "model.safetensors"

PAUSE_EDGES = (0.05, 0.12, 0.25, 0.45, 0.8, 1.5)
"""Seconds between the classes of pauses; class 0 is an unknown pause."""

_LONGEST_AFFIX = 4
_DIGITS = re.compile(r"\d+")


class Mark(IntEnum):
    """What follows a word; a mark is inside a sentence that goes on in lower case after it: "Why?" said he."""

    NONE = 0
    COMMA = 1
    PERIOD = 2
    QUESTION = 3
    EXCLAMATION = 4
    QUESTION_INSIDE = 5
    EXCLAMATION_INSIDE = 6


class Case(IntEnum):
    """How the letters of a word are written; how exactly a mixed one is comes from a table."""

    LOWER = 0
    CAPITALISED = 1
    UPPER = 2
    MIXED = 3


def case_of(form: str) -> Case:
    """The case of a word as written.

    >>> [case_of(form).name for form in ("ice", "Paris", "I", "NASA", "McDonald")]
    ['LOWER', 'CAPITALISED', 'CAPITALISED', 'UPPER', 'MIXED']
    """
    if form == form.lower():
        return Case.LOWER
    if form == form[:1].upper() + form[1:].lower():
        return Case.CAPITALISED
    return Case.UPPER if form == form.upper() else Case.MIXED


@dataclass(frozen=True, kw_only=True)
class PunctuationConfig:
    """Sizes of the network, and what its outputs are read with."""

    num_words: int = 24_000
    """Words with a vector of their own."""
    num_affixes: int = 8192
    """Vectors that beginnings and ends of words are hashed to."""
    embedding_dim: int = 128
    dim: int = 160
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8, 2, 1)
    """One a layer: words between the words that its convolution sees."""
    mark_bias: tuple[float, ...] = (0.0,) * 5
    """Added to the log-probabilities of no mark, comma, full stop, question mark and exclamation mark."""

    def __post_init__(self) -> None:
        for name in ("num_words", "num_affixes", "embedding_dim", "dim", "kernel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel must be odd, got {self.kernel}")
        if not all(isinstance(d, int) and d > 0 for d in self.dilations):
            raise ConfigError(f"dilations must be positive integers, got {list(self.dilations)}")
        if len(self.mark_bias) != 5:
            raise ConfigError(f"mark_bias needs 5 numbers, got {len(self.mark_bias)}")

    @property
    def step(self) -> int:
        """The farthest word that one layer sees: as many masked positions part two texts in one row."""
        return self.kernel // 2 * max(self.dilations, default=0)

    @property
    def reach(self) -> int:
        """The farthest word that an output depends on."""
        return self.kernel // 2 * sum(self.dilations)


def plain(word: str) -> str:
    """A bare word as the network knows it: lower case, every number the same.

    >>> plain("25"), plain("$3.50"), plain("Don’t")
    ('0', '$0.0', "don't")
    """
    return _DIGITS.sub("0", word.lower().replace("’", "'"))


class WordFeatures:
    """Numbers of words: their own, 0 where they have none, and those of their beginnings and ends.

    Arguments:
        words: the words with a number, which is their place, counted from 1.
        num_affixes: affixes are hashed to this many numbers.
    """

    def __init__(self, words: Sequence[str], num_affixes: int) -> None:
        self._numbers = {word: number for number, word in enumerate(words, start=1)}
        self._num_affixes = num_affixes

    def __call__(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Words as `plain` gives them -> their numbers, int64 `[N]`, and affixes', int64 `[N, A]`."""
        numbers = torch.tensor([self._numbers.get(word, 0) for word in words], dtype=torch.int64)
        affixes = torch.tensor([self._affixes(word) for word in words], dtype=torch.int64)
        return numbers, affixes.view(len(words), 2 * _LONGEST_AFFIX)

    def _affixes(self, word: str) -> list[int]:
        lengths = range(1, _LONGEST_AFFIX + 1)
        affixes = [f"{n}<{word[:n]}" for n in lengths] + [f"{n}>{word[-n:]}" for n in lengths]
        return [zlib.crc32(affix.encode()) % self._num_affixes for affix in affixes]


class GatedConvolution(nn.Module):
    """A residual convolution over words with gated linear units (Dauphin et al. 2017), as one matrix product."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(kernel * dim, 2 * dim)

    def forward(self, x_BTD: Tensor, mask_BT1: Tensor) -> Tensor:
        """Words where the mask is 0 are nothing to their neighbours."""
        length, side = x_BTD.shape[1], self.kernel // 2 * self.dilation
        padded = F.pad(self.norm(x_BTD) * mask_BT1, (0, 0, side, side))
        shifted = [padded[:, k * self.dilation : k * self.dilation + length] for k in range(self.kernel)]
        changed: Tensor = F.glu(self.linear(torch.cat(shifted, dim=-1)), dim=-1)
        return x_BTD + changed


class PunctuationNet(nn.Module):
    """Bare words in, log-odds of the mark after each and of its case out."""

    word_dropout = 0.08
    """Part of the words that training takes for unknown ones, so that their affixes learn to speak for them."""

    def __init__(self, config: PunctuationConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.words = nn.Embedding(config.num_words + 1, config.embedding_dim)
        self.affixes = nn.EmbeddingBag(config.num_affixes, config.embedding_dim, mode="mean")
        self.pauses = nn.Embedding(len(PAUSE_EDGES) + 2, dim)
        self.input = nn.Linear(config.embedding_dim, dim)
        self.dropout = nn.Dropout(0.2)
        self.layers = nn.ModuleList(GatedConvolution(dim, config.kernel, d) for d in config.dilations)
        self.norm = nn.LayerNorm(dim)
        self.marks = nn.Linear(dim, len(Mark))
        self.cases = nn.Linear(2 * dim, len(Case))
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.affixes.weight, std=0.1)
        nn.init.zeros_(self.pauses.weight)

    def forward(
        self, numbers_BT: Tensor, affixes_BTA: Tensor, pauses_BT: Tensor, mask_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-odds of `Mark`, `[B, T, 7]`, and of `Case`, `[B, T, 4]`.

        Arguments:
            numbers_BT, affixes_BTA: of `WordFeatures`.
            pauses_BT: classes of the pauses after the words, of `pause_classes`.
            mask_BT: 1 for words, 0 for padding, float.
        """
        if self.training:
            numbers_BT = numbers_BT * (torch.rand(numbers_BT.shape, device=numbers_BT.device) >= self.word_dropout)
        mask_BT1 = mask_BT.unsqueeze(-1)
        affixes = self.affixes(affixes_BTA.flatten(0, 1)).view(*numbers_BT.shape, -1)
        read = self.dropout(self.input(self.words(numbers_BT) + 2 * affixes)) + self.pauses(pauses_BT)
        x_BTD = read
        for layer in self.layers:
            x_BTD = layer(x_BTD, mask_BT1)
        x_BTD = self.norm(x_BTD)
        return self.marks(x_BTD), self.cases(torch.cat([read, x_BTD], dim=-1))


def pause_classes(pauses: Tensor) -> Tensor:
    """Pauses in seconds, negative where unknown -> classes, int64 of the same shape."""
    return torch.where(pauses < 0, 0, 1 + torch.bucketize(pauses, torch.tensor(PAUSE_EDGES, dtype=pauses.dtype)))


def merge_marks(log_odds: Tensor) -> Tensor:
    """Log-probabilities of no mark, comma, full stop, question and exclamation mark, inside or not: `[..., 5]`."""
    logs = log_odds.float().log_softmax(dim=-1)
    inside = torch.logaddexp(logs[..., 3:5], logs[..., 5:7])
    return torch.cat([logs[..., :3], inside], dim=-1)


@dataclass(frozen=True)
class PunctuationModel:
    """A network with the words it knows."""

    net: PunctuationNet
    words: list[str]
    forms: Mapping[str, str]
    """Words of mixed case as they are written: mcdonald -> McDonald."""


def save_punctuation(directory: Path, model: PunctuationModel) -> None:
    """Write a directory that `load_punctuation` reads; matrices become int8 with one scale a row."""
    directory.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Tensor] = {}
    for name, tensor in model.net.state_dict().items():
        if tensor.dim() < 2:
            stored[name] = tensor.float().contiguous()
            continue
        stored[name], stored[name + SCALE_SUFFIX] = quantize(name, tensor.float().contiguous())
    path = directory / WEIGHTS_FILE
    save_file(stored, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").chmod(0o644)  # the library writes files that only their owner may read
    os.replace(path.with_suffix(".tmp"), path)
    values = {**asdict(model.net.config), "forms": dict(sorted(model.forms.items()))}
    (directory / CONFIG_FILE).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / WORDS_FILE).write_text(json.dumps(model.words, ensure_ascii=False) + "\n", encoding="utf-8")


def load_punctuation(directory: Path) -> PunctuationModel:
    """Read a punctuation model, in evaluation mode.

    Raises:
        CheckpointError: when a file is missing or damaged, or the weights do not fit the configuration.
    """
    try:
        values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        words = json.loads((directory / WORDS_FILE).read_text(encoding="utf-8"))
        forms = values.pop("forms")
        config = from_mapping(PunctuationConfig, values, str(directory / CONFIG_FILE))
        net = PunctuationNet(config)
        net.load_state_dict(dequantize(load_file(directory / WEIGHTS_FILE)), assign=True)
    except OSError as error:
        raise CheckpointError(f"{directory}: no punctuation model ({error.strerror or error})") from None
    except (ValueError, KeyError, AttributeError, ConfigError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{directory}: damaged punctuation model ({' '.join(str(error).split())})") from None
    return PunctuationModel(net.eval(), words, forms)
