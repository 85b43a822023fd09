"""Published weights of Nemotron 3.5 Transcribe into the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fun_asr.layers.hybrid_lm import FLOAT_PARAMETERS
from fun_asr.models.nemotron.config import NemotronConfig, from_published
from fun_asr.models.nemotron.network import Nemotron
from fun_asr.models.nemotron.weights import names_of, published_shapes, recipes, unused
from fun_asr.models.placement import placement
from fun_asr.models.published import Values
from fun_asr.weights.assemble import assemble, check_shapes
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType
from fun_asr.weights.sources import open_safetensors, read_json
from fun_asr.weights.unfused import unfused

__all__ = ["load_network", "read_config", "read_filters"]

CONFIG_FILE = "config.json"
FRONT_END_FILES = ("processor_config.json", "preprocessor_config.json")


def read_config(folder: Path) -> NemotronConfig:
    """The configuration of the model in a folder.

    Raises:
        CheckpointError: when it is missing or describes no model that is built here.
    """
    path = folder / CONFIG_FILE
    return from_published(read_json(path), str(path))


def load_network(folder: Path, devices: Sequence[torch.device], compute_type: ComputeType) -> Nemotron:
    """Load a model for inference.

    Arguments:
        folder: with `config.json` and `model.safetensors` or its shards, as NVIDIA or as transformers writes them.
        devices: where the network computes: several share the language model's layers, and the first has all else.
        compute_type: of the language model. Encoders and the CTC head, a small part of the weights, compute in float32
            as published: who is heard hangs on a threshold.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a compute type that the device does not have.
    """
    config = read_config(folder)
    source = unfused(open_safetensors(folder))
    names = names_of(source.shapes)
    check_shapes(source, published_shapes(config, names), unused(source.shapes))
    with only_shapes():
        network = Nemotron(config)

    def kind(name: str) -> ComputeType:
        in_text = name.startswith("language_model.") and name.rpartition(".")[2] not in FLOAT_PARAMETERS
        return compute_type if in_text else ComputeType.FLOAT32

    assemble(network, source, recipes(config, names), placement(network, len(config.text.layers), devices), kind)
    return network


def read_filters(folder: Path) -> torch.dtype:
    """What the front end's window and filters are rounded to: bfloat16 as published, unless the folder says otherwise.

    Raises:
        CheckpointError: when what it says is not known, or the front end is another.
    """
    for name in FRONT_END_FILES:
        path = folder / name
        if path.exists():
            values = Values(read_json(path), str(path))
            values = values.inner("feature_extractor") if "feature_extractor" in values else values
            for key, expected in (("n_fft", 512), ("win_length", 400), ("hop_length", 160), ("preemphasis", 0.97)):
                values.fixed(key, expected)
            known = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}
            said = values.text("mel_filters_dtype", "float32")
            if said not in known:
                raise values.wrong("mel_filters_dtype", f"one of {', '.join(known)}")
            return known[said]
    return torch.bfloat16
