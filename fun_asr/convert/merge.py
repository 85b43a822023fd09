"""Adapters merged into the models that they were trained for, in the layout in which the model is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.models.registry import BUNDLED_FAMILY, identify
from fun_asr.weights.adapter import Adapter, read_adapter
from fun_asr.weights.directory import companion_files, load_stored, save_model
from fun_asr.weights.int8 import dequantize
from fun_asr.weights.published import CONFIG_FILE, companions, write_published
from fun_asr.weights.sources import WeightSource, open_safetensors

__all__ = ["merge"]


def merge(model: Path, adapter_dir: Path, output: Path) -> None:
    """Write a model with an adapter merged into it, float32.

    Arguments:
        model: what the adapter was trained for: a model directory of this package, a Whisper model in any of its
            layouts, or a folder of transformers.
        adapter_dir: with `adapter_config.json`, as `fun-asr train` and PEFT write it.
        output: folder of the merged model, in the layout of transformers where the model is a published one.

    Raises:
        CheckpointError: when a file is missing or damaged, or the adapter is another model's.
    """
    if output.resolve() == model.resolve():
        raise CheckpointError(f"{output}: is the model itself; name another folder for the merged one")
    adapter = read_adapter(adapter_dir)
    if _is_transformers(model):
        source = open_safetensors(model)
        # Counts, of batches that a normalisation has seen, are no floating-point numbers, and not needed.
        names = [name for name in source.shapes if not name.endswith("num_batches_tracked")]
        write_published(output, _merged(source, names, adapter), companions(model))
        return
    family = identify(model).name
    if family == BUNDLED_FAMILY:
        from fun_asr.models.fun_asr.load import load_config

        state = dequantize(load_stored(model))
        adapter.check_names(state)
        state = {name: adapter.added(name, tensor) for name, tensor in state.items()}
        save_model(output, load_config(model), state, companion_files(model), int8=False)
        return
    if family != "whisper":
        raise CheckpointError(f"{model}: models of the family {family} in this layout cannot be merged")
    tensors, files, written = _whisper(model)
    adapter.check_names(tensors)
    write_published(output, {name: adapter.added(name, t) for name, t in tensors.items()}, files, written)


def _is_transformers(model: Path) -> bool:
    """Whether a folder has the layout in which PEFT's names are those of the tensors."""
    config = model / CONFIG_FILE
    if not config.is_file() or not any(model.glob("model*.safetensors")):
        return False
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "model_type" in values


def _merged(source: WeightSource, names: list[str], adapter: Adapter) -> dict[str, Tensor]:
    adapter.check_names(names)
    return {name: adapter.added(name, source.read(name)).contiguous() for name in names}


def _whisper(model: Path) -> tuple[dict[str, Tensor], list[Path], Mapping[str, Mapping[str, Any]]]:
    """The tensors of a Whisper model in another layout by transformers' names, and what belongs beside them."""
    import torch

    from fun_asr.models.whisper import publish
    from fun_asr.models.whisper.checkpoint import open_checkpoint
    from fun_asr.models.whisper.load import load_network
    from fun_asr.models.whisper.tokenizer import WhisperTokenizer
    from fun_asr.weights.precision import ComputeType

    checkpoint = open_checkpoint(model)
    config, said = checkpoint.config, checkpoint.generation.multilingual
    tokenizer = WhisperTokenizer(
        checkpoint.folder, vocab_size=config.vocab_size, multilingual=config.multilingual if said is None else said
    )
    network = load_network(checkpoint, torch.device("cpu"), ComputeType.FLOAT32)
    state = {"encoder.positions": network.encoder.positions, **network.state_dict()}
    return publish.names(config).published(state), *publish.files(checkpoint, tokenizer)
