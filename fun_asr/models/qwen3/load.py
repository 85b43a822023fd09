"""Folders with Qwen's speech models into networks, a tensor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fun_asr.models.placement import placement
from fun_asr.models.qwen3.config import Qwen3Config, from_published
from fun_asr.models.qwen3.network import Qwen3
from fun_asr.models.qwen3.weights import find_names, published_shapes, recipes, unused
from fun_asr.weights.assemble import assemble, cache_dtype, check_shapes
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast
from fun_asr.weights.sources import WeightSource, open_safetensors, read_json

__all__ = ["load_network", "read_config"]

CONFIG_FILE = "config.json"


def read_config(folder: Path) -> Qwen3Config:
    """The configuration of the model in a folder.

    Raises:
        CheckpointError: when it is missing or describes no model that is built here.
    """
    path = folder / CONFIG_FILE
    return from_published(read_json(path), str(path))


def load_network(folder: Path, devices: Sequence[torch.device], compute_type: ComputeType) -> Qwen3:
    """Load a model for inference.

    Arguments:
        folder: with `config.json` and `model.safetensors` or its shards, as Qwen or as transformers writes them.
        devices: where the network computes: several share the language model's layers, and the first has all else.
        compute_type: of the language model; the speech encoder, which works on all frames at once, computes in bfloat16
            where that is fast instead of in int8.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a compute type that the device does not have.
    """
    config = read_config(folder)
    source = open_safetensors(folder)
    names = find_names(source.shapes, config)
    config = _with_its_head(config, source, f"{names.text}embed_tokens.weight", f"{names.head}.weight")
    check_shapes(source, published_shapes(config, names), unused(config, names, source.shapes))
    with only_shapes():
        network = Qwen3(config)
    # int4 is asked for where memory is short.
    frames = ComputeType.INT8 if compute_type is ComputeType.INT4 else compute_type
    convs = frames
    if frames is ComputeType.INT8 and bfloat16_is_fast(devices[0]):
        convs = ComputeType.BFLOAT16  # theirs are no products of integers in any case
        frames = convs if compute_type is ComputeType.INT8 else frames

    def arithmetic(name: str) -> ComputeType:
        if name.startswith("encoder.convs."):
            return convs
        return frames if name.startswith("encoder.") else compute_type

    assemble(
        network,
        source,
        recipes(config, names),
        placement(network, config.text.num_layers, devices),
        arithmetic,
    )
    network.language_model.cache_dtype = cache_dtype(compute_type, devices[0])
    return network


def _with_its_head(config: Qwen3Config, source: WeightSource, embedding: str, head: str) -> Qwen3Config:
    """The configuration with an output projection where one is stored that differs from the embedding.

    Published files store it even where it is the embedding.
    """
    shapes = source.shapes
    if config.labels or not config.text.tied or shapes.get(head) is None or shapes[head] != shapes.get(embedding):
        return config
    same = torch.equal(source.read(head), source.read(embedding))
    return config if same else replace(config, text=replace(config.text, tied=False))
