"""What `fun-asr info` says of published configurations, beside transformers' networks of the same sizes."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GraniteSpeech5CTCConfig,
    GraniteSpeech5ForCTC,
    ParakeetCTCConfig,
    ParakeetForCTC,
    PreTrainedConfig,
    PreTrainedModel,
    WhisperForConditionalGeneration,
)

from fun_asr.cli import main
from tests.models.whisper.conftest import random_whisper, save_transformers


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    return random_whisper()


def described(directory: Path, *arguments: str) -> dict[str, dict[str, float]]:
    result = CliRunner().invoke(main, ["info", str(directory), "--json", *arguments])
    assert result.exit_code == 0, result.stderr
    values: dict[str, dict[str, float]] = json.loads(result.stdout)
    return values


@pytest.mark.parametrize(
    ("config", "model"), [(ParakeetCTCConfig(), ParakeetForCTC), (GraniteSpeech5CTCConfig(), GraniteSpeech5ForCTC)]
)
def test_published_sizes_are_those_of_transformers(
    config: PreTrainedConfig, model: type[PreTrainedModel], tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        network = model(config)
    ours = described(tmp_path)
    theirs = sum(parameter.numel() for parameter in network.parameters())
    # Normalisation is folded into the convolutions: two vectors a layer become one.
    assert ours["parameters"]["model"] == pytest.approx(theirs, rel=1e-4)
    assert sum(count for part, count in ours["parameters"].items() if part != "model") == ours["parameters"]["model"]
    assert ours["weight_bytes"]["bfloat16"] == 2 * ours["parameters"]["model"]
    assert 1 <= ours["weight_bytes"]["int8"] / ours["parameters"]["model"] < 1.1


def test_the_arithmetic_is_that_of_transformers(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    ours = described(save_transformers(whisper, tmp_path), "--tokens_per_second", "1")
    positions, key_biases = 1500 * 32, (3 + 2 * 2) * 32  # sinusoids there; here zeros, of the joined projections
    theirs = sum(parameter.numel() for parameter in whisper.parameters())
    assert ours["parameters"]["model"] + positions - key_biases == theirs
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        whisper.model.encoder(torch.zeros(1, 80, 3000))
    assert ours["flops_per_second"]["encoder"] * 30 == pytest.approx(counter.get_total_flops(), rel=1e-6)
    result = CliRunner().invoke(main, ["info", str(tmp_path), "--tokens_per_second", "2"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the decoder takes 1 to 40" in result.stderr


def test_the_table_names_all_parts(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["info", str(save_transformers(whisper, tmp_path)), "--tokens_per_second", "1"])
    assert result.exit_code == 0, result.stderr
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[1:4]] == ["encoder", "decoder", "whole model"]
