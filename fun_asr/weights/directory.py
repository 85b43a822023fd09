"""Model directories: `config.json`, safetensors shards, tokenizers, detector, language model. No pickle anywhere.

Weight matrices are stored int8 with one float32 scale per output channel (`NAME.scale`) or as float32; vectors,
depth-wise kernels and the router stay float32.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.files import replacing, write_atomically
from fun_asr.model.config import ModelConfig, from_mapping
from fun_asr.weights.int8 import SCALE_SUFFIX, quantize, stored_as_int8

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
CTC_TOKENIZER_FILE = "ctc.model"
CTC_LANGUAGE_MODEL_FILE = "ctc-lm.safetensors"
"""A model can do without it."""
VAD_FILE = "vad.safetensors"
SHARD_BYTES = 50 * 10**6


def save_model(
    directory: Path, config: ModelConfig, state: dict[str, Tensor], companions: Iterable[Path], *, int8: bool
) -> None:
    """Write a model directory that `load_state` and `fun-asr --model` read.

    Arguments:
        directory: created if missing; files of the same names are replaced.
        config: the model's sizes.
        state: parameters and buffers by name.
        companions: what to copy in, as `companion_files` names it.
        int8: store matrices as int8 per output channel instead of float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for path in companions:
        if path.resolve() != (directory / path.name).resolve():
            shutil.copyfile(path, directory / path.name)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        stored = {name: tensor.detach().float().contiguous()}
        if int8 and stored_as_int8(name, tensor):
            integers, scale = quantize(name, stored[name])
            stored = {name: integers.contiguous(), name + SCALE_SUFFIX: scale.contiguous()}
        added = sum(value.numel() * value.element_size() for value in stored.values())
        if size and size + added > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1].update(stored)
        size += added
    for old in directory.glob("model-*.safetensors"):
        old.unlink()
    for number, shard in enumerate(shards, start=1):
        path = directory / f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(path, shard)
    text = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_atomically(directory / CONFIG_FILE, text.encode())


def companion_files(directory: Path) -> list[Path]:
    """What a model directory holds beside the network: tokenizers, a speech detector and a language model if any."""
    optional = [directory / VAD_FILE, directory / CTC_LANGUAGE_MODEL_FILE]
    tokenizers = [directory / TOKENIZER_FILE, directory / CTC_TOKENIZER_FILE]
    return [*tokenizers, *(path for path in optional if path.exists())]


def load_config(directory: Path) -> ModelConfig:
    """Read a model directory's configuration.

    Raises:
        CheckpointError: when there is none, or it is damaged.
    """
    path = directory / CONFIG_FILE
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError:
        raise CheckpointError(f"{directory}: no model directory ({CONFIG_FILE} is missing)") from None
    except (ValueError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged configuration ({error})") from None


def load_stored(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model directory as stored: int8 ones with their scales beside them.

    Raises:
        CheckpointError: when a shard is missing or damaged.
    """
    shards = sorted(directory.glob("model-*-of-*.safetensors"))
    if not shards or len(shards) != int(shards[0].stem.rsplit("-", 1)[-1]):
        raise CheckpointError(f"{directory}: shards of the model are missing")
    stored: dict[str, Tensor] = {}
    for path in shards:
        try:
            with safe_open(path, framework="pt") as shard:
                for name in shard.keys():  # noqa: SIM118  (not a dict)
                    stored[name] = shard.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged ({error})") from None
    return stored


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file under another name and move it into place."""
    with replacing(path) as unfinished:
        save_file(tensors, unfinished)
        unfinished.chmod(0o644)  # the library writes files that only their owner may read
