"""What `fun-asr info` says of published configurations, beside transformers' networks of the same sizes."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    FunAsrNanoConfig,
    GraniteSpeech5CTCConfig,
    GraniteSpeech5ForCTC,
    ParakeetCTCConfig,
    ParakeetForCTC,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3ASRConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

from fun_asr.cli import main
from tests.models.whisper.conftest import random_whisper, save_transformers


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    return random_whisper()


def qwen3_asr(audio_dim: int, layers: int, heads: int, ffn: int, dim: int, text_ffn: int) -> Qwen3ASRConfig:
    """Qwen3-ASR as it is published."""
    return Qwen3ASRConfig(
        audio_config={
            "d_model": audio_dim, "encoder_layers": layers, "encoder_attention_heads": heads, "encoder_ffn_dim": ffn,
            "output_dim": dim,
        },
        text_config={
            "model_type": "qwen3", "vocab_size": 151_936, "hidden_size": dim, "intermediate_size": text_ffn,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        },
    )  # fmt: skip


def thinker() -> Qwen3OmniMoeThinkerConfig:
    """That of Qwen3-Omni-30B-A3B."""
    return Qwen3OmniMoeThinkerConfig(
        audio_config={"output_dim": 2048},
        text_config={
            "vocab_size": 152_064, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128,
            "num_experts_per_tok": 8,
        },
    )  # fmt: skip


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


@pytest.mark.parametrize(
    ("config", "total", "language_model", "active"),
    [
        # Their language models have the published sizes of Qwen3-0.6B, 1.7B and 30B-A3B.
        (qwen3_asr(896, 18, 14, 3584, 1024, 3072), 0.782e9, 0.596e9, 0.596e9),
        (qwen3_asr(1024, 24, 16, 4096, 2048, 6144), 2.04e9, 1.72e9, 1.72e9),
        (FunAsrNanoConfig(), 0.830e9, 0.596e9, 0.596e9),
        (thinker(), 31.18e9, 30.5e9, 3.35e9),
    ],
)
def test_language_models_count_the_experts_that_a_token_meets(
    config: PreTrainedConfig, total: float, language_model: float, active: float, tmp_path: Path
) -> None:
    config.save_pretrained(tmp_path)
    ours = described(tmp_path)
    assert ours["parameters"]["model"] == pytest.approx(total, rel=0.002)
    assert ours["parameters"]["language_model"] == pytest.approx(language_model, rel=0.002)
    assert ours["active_parameters"]["language_model"] == pytest.approx(active, rel=0.002)
    idle = ours["parameters"]["model"] - ours["active_parameters"]["model"]
    assert idle == ours["parameters"]["language_model"] - ours["active_parameters"]["language_model"]
    table = CliRunner().invoke(main, ["info", str(tmp_path)]).stdout
    assert ("active" in table.splitlines()[0]) == ("30.53 B" in table and "3.354 B" in table) == (idle > 0)


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
