"""Folders as FunASR publishes them: `config.yaml`, `model.pt`, and the front end's statistics in `am.mvn`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fun_asr.audio.kaldi_features import STRIDE
from fun_asr.errors import CheckpointError
from fun_asr.layers.sanm import SANMConfig
from fun_asr.models.published import Values, parse_yaml
from fun_asr.weights.sources import INDEX_FILE, SINGLE_FILE, WeightSource, open_safetensors
from fun_asr.weights.torch_archive import open_torch_archive

__all__ = [
    "CONFIG_FILE", "WEIGHTS_FILE", "encoder_config", "has_weights", "open_upstream", "read_config",
    "read_statistics", "upstream_model",
]  # fmt: skip

CONFIG_FILE, WEIGHTS_FILE, STATISTICS_FILE = "config.yaml", "model.pt", "am.mvn"
LARGEST_TEXT = 16 * 2**20  # bytes
# Several times the largest that were published: beyond them a configuration is damaged, or made to exhaust memory.
MAX_DIM, MAX_FFN, MAX_LAYERS = 8192, 65536, 512


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise CheckpointError(f"{path}: larger than {LARGEST_TEXT >> 20} MiB, no file of a model of FunASR")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None


def read_config(directory: Path) -> Values:
    """What `config.yaml` says.

    Raises:
        CheckpointError: when it is missing or no YAML.
    """
    path = directory / CONFIG_FILE
    return Values(parse_yaml(_read(path), str(path)), str(path))


def upstream_model(directory: Path) -> str | None:
    """The class that `config.yaml` names; None where there is no such file, or it names none."""
    try:
        if not (directory / CONFIG_FILE).is_file():
            return None
        return read_config(directory).text("model", "") or None
    except CheckpointError:
        return None


def encoder_config(config: Values, section: str) -> SANMConfig:
    """The encoder in a `config.yaml`.

    Arguments:
        config: the whole file.
        section: where the encoder's sizes are.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    config.fixed("frontend", "WavFrontend")
    front_end = config.inner("frontend_conf")
    for key, expected in (
        ("fs", 16000), ("window", "hamming"), ("frame_length", 25), ("frame_shift", 10), ("lfr_n", STRIDE),
        ("snip_edges", True), ("upsacle_samples", True),
    ):  # fmt: skip
        front_end.fixed(key, expected)
    sizes = config.inner(section)
    for key, value in (("sanm_shfit", 0), ("normalize_before", True), ("concat_after", False)):
        sizes.fixed(key, value)
    dim, num_heads = sizes.integer("output_size", None, 1, MAX_DIM), sizes.integer("attention_heads", 4, 1, 256)
    if dim % num_heads:
        raise CheckpointError(f"{config.where}: {num_heads} heads do not share the width {dim}")
    kernel = sizes.integer("kernel_size", 11, 1, 255)
    if kernel % 2 == 0:
        raise sizes.wrong("kernel_size", "odd")
    return SANMConfig(
        n_mels=front_end.integer("n_mels", 80, 1, 1024),
        stacked=front_end.integer("lfr_m", 7, 1, 64),
        dim=dim,
        ffn_dim=sizes.integer("linear_units", 2048, 1, MAX_FFN),
        num_heads=num_heads,
        num_layers=sizes.integer("num_blocks", None, 1, MAX_LAYERS),
        num_more_layers=sizes.integer("tp_blocks", 0, 0, MAX_LAYERS),
        kernel=kernel,
    )


def _without_prefix(name: str) -> str:
    return name.removeprefix("module.")


def has_weights(directory: Path) -> bool:
    """Whether `open_upstream` would find a file."""
    return any((directory / name).exists() for name in (WEIGHTS_FILE, SINGLE_FILE, INDEX_FILE))


def open_upstream(directory: Path) -> WeightSource:
    """The tensors of `model.pt`, by the names that they have without a data-parallel wrapper.

    Folders that were written again with smaller weights have them, so named, in safetensors instead.

    Raises:
        CheckpointError: when it is missing or damaged, or would do more than list tensors.
    """
    path = directory / WEIGHTS_FILE
    if not path.exists() and has_weights(directory):
        return open_safetensors(directory)
    try:
        file = path.open("rb")  # stays open as long as the tensors are read
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    return open_torch_archive(file, path, _without_prefix)


def read_statistics(directory: Path, width: int) -> tuple[Tensor, Tensor] | None:
    """What is added to each feature and what it is then multiplied by, from `am.mvn`; None without that file.

    Arguments:
        directory: the model's folder.
        width: features of a stacked frame.

    Raises:
        CheckpointError: when the file is no such network of Kaldi's, or of another width.
    """
    path = directory / STATISTICS_FILE
    if not path.exists():
        return None
    words = _read(path).decode("utf-8", "replace").split()
    return _vector(words, "<AddShift>", width, path), _vector(words, "<Rescale>", width, path)


def _vector(words: list[str], layer: str, width: int, path: Path) -> Tensor:
    """The numbers in brackets after a layer's name."""
    try:
        start = words.index("[", words.index(layer)) + 1
        values: list[Any] = [float(word) for word in words[start : words.index("]", start)]]
    except ValueError:
        raise CheckpointError(f"{path}: has no {layer} with numbers in brackets") from None
    found = torch.tensor(values, dtype=torch.float32)
    if len(values) != width or not bool(found.isfinite().all()):
        raise CheckpointError(f"{path}: {layer} has {len(values)} numbers, or some that are none; frames have {width}")
    return found
