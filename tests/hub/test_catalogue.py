"""`fun-asr models`: what the list says is so."""

import json
import math
from typing import Any

import click.testing
import pytest
from transformers import ParakeetCTCConfig, ParakeetRNNTConfig, ParakeetTDTConfig

from fun_asr.cli import main
from fun_asr.hub.catalogue import PublishedModel, catalogue
from fun_asr.models.conformer.config import MODEL_TYPES, from_transformers
from fun_asr.models.conformer.weights import published_shapes as conformer_shapes
from fun_asr.models.granite.config import GraniteConfig
from fun_asr.models.granite.weights import published_shapes as granite_shapes
from fun_asr.models.whisper.config import WhisperConfig
from fun_asr.models.whisper.network import Whisper
from fun_asr.weights.load import only_shapes

MODELS = {model.name: model for model in catalogue()}
WHISPER = {
    "whisper-tiny": (384, 4, 4, 51_865, 80),
    "whisper-base.en": (512, 6, 6, 51_864, 80),
    "whisper-large-v3-turbo": (1280, 32, 4, 51_866, 128),
    "distil-large-v3.5": (1280, 32, 2, 51_866, 128),
}
"""Width, layers of the encoder and decoder, vocabulary, mel bins, as published."""


def elements(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if "running_" not in name)


@pytest.mark.parametrize("name", WHISPER)
def test_the_parameters_of_whisper_are_those_of_its_published_sizes(name: str) -> None:
    dim, encoder, decoder, vocabulary, mels = WHISPER[name]
    config = WhisperConfig(
        n_mels=mels, dim=dim, encoder_layers=encoder, encoder_heads=dim // 64, encoder_ffn_dim=4 * dim,
        decoder_layers=decoder, decoder_heads=dim // 64, decoder_ffn_dim=4 * dim, vocab_size=vocabulary,
    )  # fmt: skip
    with only_shapes():
        network = Whisper(config)
    positions = config.max_frames * dim
    assert sum(parameter.numel() for parameter in network.parameters()) + positions == MODELS[name].parameters


def test_the_parameters_of_conformers_are_those_of_their_published_sizes() -> None:
    made: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "parakeet-ctc-0.6b": (ParakeetCTCConfig, "parakeet_ctc", {"vocab_size": 1025}),
        "parakeet-rnnt-0.6b": (ParakeetRNNTConfig, "parakeet_rnnt", {"vocab_size": 1025, "blank_token_id": 1024}),
        "parakeet-tdt-0.6b-v3": (ParakeetTDTConfig, "parakeet_tdt", {"vocab_size": 8193, "blank_token_id": 8192}),
    }
    for name, (kind, model_type, values) in made.items():
        encoder = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}
        if model_type == "parakeet_tdt":
            encoder |= {"attention_bias": False, "convolution_bias": False, "num_mel_bins": 128}
        found = kind(encoder_config=encoder, **values).to_dict() | {"model_type": model_type}
        assert elements(conformer_shapes(from_transformers(found, name))) == MODELS[name].parameters, name
    assert elements(granite_shapes(GraniteConfig())) == MODELS["granite-speech-5.0-470m"].parameters


def test_every_entry_is_complete() -> None:
    assert len(MODELS) == len(catalogue())
    for model in MODELS.values():
        assert model.hub.count("/") == 1
        assert model.family in {"whisper", "conformer", "granite"}
        assert model.checked in {"weights", "parity"}
        assert model.languages
        assert (model.wer is None) == (model.source is None)
    assert {kind for kind in MODEL_TYPES.values() if any(kind in name for name in MODELS)} == {"ctc", "rnnt", "tdt"}


def test_the_list_says_what_a_buyer_asks() -> None:
    result = click.testing.CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert lines["parakeet-tdt-0.6b-v2"].split()[1:] == [
        "conformer", "618", "M", "1.24", "en", "CC-BY-4.0", "6.05", "parity", "nvidia/parakeet-tdt-0.6b-v2",
    ]  # fmt: skip
    assert " 25 " in lines["parakeet-tdt-0.6b-v3"]
    assert "IBM" in result.stdout


def test_the_list_is_machine_readable() -> None:
    result = click.testing.CliRunner().invoke(main, ["models", "-f", "json"])
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == list(MODELS)
    (turbo,) = (row for row in rows if row["name"] == "whisper-large-v3-turbo")
    assert turbo["weight_bytes"]["float32"] == 4 * turbo["parameters"]
    assert "no" in turbo["languages"]
    assert {field for row in rows for field in row} == {*PublishedModel.__dataclass_fields__, "weight_bytes"}
