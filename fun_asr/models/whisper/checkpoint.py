"""A published Whisper model on disk: which of the three layouts it has, its sizes and what is said of its search."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.whisper.config import Generation, WhisperConfig, from_dims, from_transformers, read_generation
from fun_asr.models.whisper.names import CTRANSLATE2, OPENAI, TRANSFORMERS, Layout
from fun_asr.weights.sources import (
    INDEX_FILE,
    SINGLE_FILE,
    WeightSource,
    open_ctranslate2,
    open_safetensors,
    open_torch,
    read_json,
)

__all__ = ["Checkpoint", "open_checkpoint"]

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CTRANSLATE2_FILE = "model.bin"

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """A model whose weights are not read yet."""

    folder: Path
    """Where the files beside the weights are."""
    config: WhisperConfig
    generation: Generation
    source: WeightSource
    layout: Layout


def open_checkpoint(path: Path) -> Checkpoint:
    """Find out what a folder, or a `.pt` file, holds.

    Arguments:
        path: a folder with `model.safetensors` or its shards and `config.json` (transformers), with `model.bin` and
            `config.json` (CTranslate2), or with one `.pt` file of OpenAI's; or that file.

    Raises:
        CheckpointError: when it is none of these, or a file is damaged.
    """
    if path.is_file():
        return _openai(path)
    if (path / SINGLE_FILE).exists() or (path / INDEX_FILE).exists():
        return _transformers(path)
    if (path / CTRANSLATE2_FILE).exists():
        return _ctranslate2(path)
    files = sorted(path.glob("*.pt"))
    if len(files) > 1:
        raise CheckpointError(f"{path}: holds {len(files)} .pt files; name the one to load")
    if not files:
        raise CheckpointError(f"{path}: no weights here ({SINGLE_FILE}, {CTRANSLATE2_FILE} or one .pt file)")
    return _openai(files[0])


def _transformers(folder: Path) -> Checkpoint:
    path = folder / CONFIG_FILE
    values = read_json(path)
    config = _named(path, lambda: from_transformers(values))
    generation_path = folder / GENERATION_FILE if (folder / GENERATION_FILE).exists() else path
    said = read_json(generation_path)
    generation = _named(
        generation_path,
        lambda: read_generation(said, "suppress_tokens", "begin_suppress_tokens").checked(config),
    )
    source = open_safetensors(folder)
    prefix = "model."
    if not any(name.startswith(prefix) for name in source.shapes):
        # Saved without the output projection around it.
        source = WeightSource(
            source.where,
            {prefix + name: shape for name, shape in source.shapes.items()},
            lambda name, read=source.read: read(name.removeprefix(prefix)),  # type: ignore[misc]
        )
    return Checkpoint(folder, config, generation, source, TRANSFORMERS)


def _openai(path: Path) -> Checkpoint:
    source, rest = open_torch(path, "model_state_dict")
    dims = rest.get("dims")
    if not isinstance(dims, dict):
        raise CheckpointError(f"{path}: holds no dims; only Whisper's own .pt files are known")
    config = _named(path, lambda: from_dims(dims))
    return Checkpoint(path.parent, config, Generation(), source, OPENAI)


def _ctranslate2(folder: Path) -> Checkpoint:
    path = folder / CTRANSLATE2_FILE
    source, numbers = open_ctranslate2(path)
    config = _named(path, lambda: _sizes(source, numbers))
    said_path = folder / CONFIG_FILE
    # The first converters wrote none.
    said: dict[str, Any] = read_json(said_path) if said_path.exists() else {}
    generation = _named(said_path, lambda: read_generation(said, "suppress_ids", "suppress_ids_begin").checked(config))
    return Checkpoint(folder, config, generation, source, CTRANSLATE2)


def _sizes(source: WeightSource, numbers: dict[str, int]) -> WhisperConfig:
    """The sizes of a CTranslate2 model, which only its tensors tell."""

    def size(name: str, axis: int) -> int:
        shape = source.shapes.get(name)
        if shape is None or len(shape) <= axis:
            raise ConfigError(f"no Whisper model: {name} is missing")
        return shape[axis]

    def layers(side: str) -> int:
        pattern = re.compile(rf"{side}/(layer_\d+)/")
        return len({found[1] for name in source.shapes if (found := pattern.match(name))})

    def heads(side: str) -> int:
        # The first converters did not write them: all of Whisper's heads are 64 wide.
        return numbers.get(f"{side}/num_heads", size("decoder/embeddings/weight", 1) // 64)

    return WhisperConfig(
        n_mels=size("encoder/conv1/weight", 1),
        dim=size("decoder/embeddings/weight", 1),
        encoder_layers=layers("encoder"),
        encoder_heads=heads("encoder"),
        encoder_ffn_dim=size("encoder/layer_0/ffn/linear_0/weight", 0),
        decoder_layers=layers("decoder"),
        decoder_heads=heads("decoder"),
        decoder_ffn_dim=size("decoder/layer_0/ffn/linear_0/weight", 0),
        vocab_size=size("decoder/embeddings/weight", 0),
        max_frames=size("encoder/position_encodings/encodings", 0),
        max_tokens=size("decoder/position_encodings/encodings", 0),
    )


def _named(path: Path, read: Callable[[], T]) -> T:
    """What `read` returns; its ConfigError becomes a CheckpointError that names the file."""
    try:
        return read()
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
