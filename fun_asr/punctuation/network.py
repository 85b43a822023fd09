"""The network that restores punctuation and case: a BERT-shaped encoder with two heads over the words' last pieces.

Shapes: B rows, T pieces, D width.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fun_asr.configuration import from_mapping
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.files import write_atomically
from fun_asr.punctuation.bert import BertConfig, BertEncoder
from fun_asr.weights.directory import write_tensors
from fun_asr.weights.int8 import SCALE_SUFFIX, Int8Linear, dequantize, quantize
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType

CONFIG_FILE, PIECES_FILE, WEIGHTS_FILE = "config.json", "pieces.json", "model.safetensors"

PAUSE_EDGES = (0.05, 0.12, 0.25, 0.45, 0.8, 1.5)
"""Seconds between the classes of pauses; class 0 is an unknown pause."""

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

    encoder: BertConfig
    mark_bias: tuple[float, ...] = (0.0,) * 5
    """Added to the log-probabilities of no mark, comma, full stop, question mark and exclamation mark."""

    def __post_init__(self) -> None:
        if len(self.mark_bias) != 5:
            raise ConfigError(f"mark_bias needs 5 numbers, got {len(self.mark_bias)}")


def plain(word: str) -> str:
    """A bare word as the network knows it: lower case, every number the same.

    >>> plain("25"), plain("$3.50"), plain("Don’t")
    ('0', '$0.0', "don't")
    """
    return _DIGITS.sub("0", word.lower().replace("’", "'"))


class PunctuationNet(nn.Module):
    """Bare words in, log-odds of the mark after each and of its case out, both read at its last piece."""

    def __init__(self, config: PunctuationConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.encoder.dim
        self.encoder = BertEncoder(config.encoder)
        self.pauses = nn.Embedding(len(PAUSE_EDGES) + 2, dim)
        self.dropout = nn.Dropout(0.1)
        self.marks = nn.Linear(dim, len(Mark))
        self.cases = nn.Linear(dim, len(Case))
        nn.init.zeros_(self.pauses.weight)

    def forward(
        self, pieces_BT: Tensor, positions_BT: Tensor, texts_BT: Tensor, pauses_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-odds of `Mark`, `[B, T, 7]`, and of `Case`, `[B, T, 4]`.

        Arguments:
            pieces_BT, positions_BT, texts_BT: as for `BertEncoder`.
            pauses_BT: classes of the pauses after the pieces, of `pause_classes`; 0 inside a word.
        """
        x_BTD = self.dropout(self.encoder(pieces_BT, positions_BT, texts_BT, self.pauses(pauses_BT)))
        return self.marks(x_BTD), self.cases(x_BTD)


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
    """A network with the pieces of words it knows."""

    net: PunctuationNet
    pieces: list[str]
    """The WordPiece vocabulary."""
    forms: Mapping[str, str]
    """Words of mixed case as they are written: mcdonald -> McDonald."""


def save_punctuation(directory: Path, model: PunctuationModel, *, int8: bool = True) -> None:
    """Write a directory that `load_punctuation` reads.

    Arguments:
        directory: created if missing.
        model: what to write.
        int8: store matrices as int8 with one scale a row instead of float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Tensor] = {}
    for name, tensor in model.net.state_dict().items():
        stored[name] = tensor.float().contiguous()
        if int8 and tensor.dim() > 1:
            stored[name], stored[name + SCALE_SUFFIX] = quantize(name, stored[name])
    write_tensors(directory / WEIGHTS_FILE, stored)
    values = {**asdict(model.net.config), "forms": dict(sorted(model.forms.items()))}
    pieces = json.dumps(model.pieces, ensure_ascii=False)
    write_atomically(directory / PIECES_FILE, f"{pieces}\n".encode())
    # Last, so that a new directory with a configuration is whole.
    write_atomically(directory / CONFIG_FILE, f"{json.dumps(values, indent=1, ensure_ascii=False)}\n".encode())


def load_punctuation(directory: Path, compute_type: ComputeType = ComputeType.FLOAT32) -> PunctuationModel:
    """Read a punctuation model, in evaluation mode.

    Arguments:
        directory: what `save_punctuation` wrote.
        compute_type: arithmetic of the encoder's matrix products.

    Raises:
        CheckpointError: when a file is missing or damaged, or the weights do not fit the configuration.
    """
    try:
        values = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        pieces = json.loads((directory / PIECES_FILE).read_text(encoding="utf-8"))
        forms = values.pop("forms")
        config = from_mapping(PunctuationConfig, values, str(directory / CONFIG_FILE))
        with only_shapes():
            net = PunctuationNet(config)
        stored = load_file(directory / WEIGHTS_FILE)
        net.load_state_dict(dequantize(stored), assign=True)
        if len(pieces) != config.encoder.vocab_size:
            raise ConfigError(f"{len(pieces)} pieces, the configuration has {config.encoder.vocab_size}")
    except OSError as error:
        raise CheckpointError(f"{directory}: no punctuation model ({error.strerror or error})") from None
    except (ValueError, KeyError, AttributeError, TypeError, ConfigError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{directory}: damaged punctuation model ({' '.join(str(error).split())})") from None
    if compute_type is not ComputeType.FLOAT32:
        linears = {n: m for n, m in net.encoder.blocks.named_modules(prefix="encoder.blocks") if type(m) is nn.Linear}
        for name, linear in linears.items():
            net.set_submodule(name, _replaced(name, linear, stored, compute_type))
    return PunctuationModel(net.eval(), pieces, forms)


def _replaced(name: str, linear: nn.Linear, stored: Mapping[str, Tensor], compute_type: ComputeType) -> nn.Module:
    if compute_type is ComputeType.BFLOAT16:
        return linear.to(torch.bfloat16)
    weight = f"{name}.weight"
    integers, scale = stored[weight], stored.get(weight + SCALE_SUFFIX)
    if scale is None:
        integers, scale = quantize(weight, integers)
    return Int8Linear(integers, scale, linear.bias)
