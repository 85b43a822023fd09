"""Which family a model belongs to, found out without reading weights, and the family's loader.

A family is a row here and a folder beside this file, whose module `recogniser` has:

- `load(options: ModelOptions) -> SegmentRecogniser`
- `describe(path: Path, tokens_per_second: float) -> Cost`, without reading weights
- `is_own(path: Path) -> bool`: whether a model that has no `config.json` with a `model_type` is one of this family
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.cost import Cost
from fun_asr.models.protocol import SegmentRecogniser
from fun_asr.options import ModelOptions
from fun_asr.weights.sources import read_json

__all__ = ["BUNDLED_FAMILY", "FAMILIES", "Family", "identify", "load_recogniser"]

CONFIG_FILE = "config.json"


class _Module(Protocol):
    def load(self, options: ModelOptions) -> SegmentRecogniser: ...
    def describe(self, path: Path, tokens_per_second: float) -> Cost: ...
    def is_own(self, path: Path) -> bool: ...


@dataclass(frozen=True)
class Family:
    """A family of models."""

    name: str
    """Of its folder."""
    model_types: tuple[str, ...] = ()
    """What its `config.json` says it is."""
    takes_aligner: bool = False
    """Whether another model can find when its words are said."""

    has_language_model: bool = False
    """Whether a decoder-only one writes its texts, whose matrices can have 4 bits."""

    @property
    def module(self) -> _Module:
        """Its recogniser's."""
        return cast(_Module, importlib.import_module(f"fun_asr.models.{self.name}.recogniser"))


FAMILIES = (
    Family("fun_asr"),
    Family("whisper", ("whisper",)),
    Family("conformer", ("parakeet_ctc", "parakeet_tdt", "parakeet_rnnt")),
    Family("granite", ("granite_speech5_ctc",)),
    Family(
        "qwen3", ("qwen3_asr", "qwen3_omni_moe", "qwen3_omni_moe_thinker"), takes_aligner=True, has_language_model=True
    ),
    Family("sense_voice"),
    Family("fun_asr_nano", ("fun_asr_nano",), has_language_model=True),
    Family("nemotron", ("nemo_speechlm",), has_language_model=True),
)
BUNDLED_FAMILY = FAMILIES[0].name


def identify(path: Path) -> Family:
    """The family of a model.

    Arguments:
        path: what a user gives as `--model`.

    Raises:
        CheckpointError: when it holds no model, or one of a family that is not known.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no model directory")
    config = path / CONFIG_FILE
    model_type = read_json(config).get("model_type") if config.exists() else None
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    if model_type is None:
        for family in FAMILIES:
            if family.module.is_own(path):
                return family
    known = ", ".join((BUNDLED_FAMILY, *(name for family in FAMILIES for name in family.model_types)))
    if path.is_file():
        raise CheckpointError(f"{path}: no model in one file that is known; those are NeMo's .nemo and Whisper's .pt")
    if not config.exists():
        raise CheckpointError(f"{path}: no model directory ({CONFIG_FILE} is missing)")
    said = "no model_type" if model_type is None else f"the model_type {str(model_type)[:40]!r}"
    raise CheckpointError(f"{path}: {CONFIG_FILE} has {said}, which is no known family; known: {known}")


def load_recogniser(options: ModelOptions) -> SegmentRecogniser:
    """Load a model.

    Arguments:
        options: with its directory.

    Raises:
        CheckpointError: when a file is missing or damaged, or the family is not known.
        ConfigError: for a device or compute type that is not available, or an aligner that the model has no use for.
    """
    assert options.directory is not None
    family = identify(Path(options.directory))
    if options.aligner is not None and not family.takes_aligner:
        raise ConfigError("aligner: this model finds the times of its words itself")
    return family.module.load(options)
