"""Model directories: what is written is what is read, int8 stays within half a step, damage is named."""

import json
from pathlib import Path

import pytest
import torch

from fun_asr.errors import CheckpointError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.load import build_model, load_config
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights import directory
from fun_asr.weights.directory import load_stored, save_model
from fun_asr.weights.int8 import dequantize

SMALL = ModelConfig(
    encoder=EncoderConfig(n_mels=16, dim=32, num_layers=1, num_heads=4, ffn_dim=64, conv_dim=16, max_frames=50),
    ctc=CTCConfig(vocab_size=12, hidden_dim=32),
    decoder=DecoderConfig(
        vocab_size=60, dim=32, num_layers=1, num_heads=4, ffn_dim=64, num_experts=4, expert_dim=16, max_tokens=16
    ),
)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = FunASR(SMALL)
    return {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}


def test_float32_round_trip_is_exact(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_model(tmp_path, SMALL, state, [], int8=False)
    assert load_config(tmp_path) == SMALL
    read = dequantize(load_stored(tmp_path))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_int8_is_within_half_a_step_of_each_output_channel(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_model(tmp_path, SMALL, state, [], int8=True)
    stored = load_stored(tmp_path)
    read = dequantize(stored)
    assert stored["decoder.embedding.weight"].dtype == torch.int8
    weight = state["encoder.blocks.0.ffn.up.weight"]
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((read["encoder.blocks.0.ffn.up.weight"] - weight).abs() <= step / 2 + 1e-7).all()
    experts = state["decoder.blocks.0.ffn.experts.gate_up_EHD"]  # [E, out, in]
    step = experts.abs().amax(dim=2, keepdim=True) / 127
    assert ((read["decoder.blocks.0.ffn.experts.gate_up_EHD"] - experts).abs() <= step / 2 + 1e-7).all()
    for exact in ("decoder.blocks.0.ffn.router.gate.weight", "encoder.norm.weight", "decoder.positions"):
        assert torch.equal(read[exact], state[exact]), exact


def test_shards_stay_small_and_replace_older_ones(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SHARD_BYTES", 20_000)
    save_model(tmp_path, SMALL, state, [], int8=False)
    many = sorted(tmp_path.glob("*.safetensors"))
    assert len(many) > 3
    assert all(torch.equal(dequantize(load_stored(tmp_path))[name], state[name]) for name in state)
    many[1].unlink()
    with pytest.raises(CheckpointError, match="shards of the model are missing"):
        load_stored(tmp_path)
    monkeypatch.undo()
    save_model(tmp_path, SMALL, state, [], int8=False)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model-00001-of-00001.safetensors"]


def test_damage_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_config(tmp_path)
    save_model(tmp_path, SMALL, state, [], int8=False)
    shard = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=shard.name):
        load_stored(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"encoder": {"depth": 3}}))
    with pytest.raises(CheckpointError, match="unknown key 'depth'"):
        load_config(tmp_path)


def test_weights_that_do_not_fit_are_refused(state: dict[str, torch.Tensor]) -> None:
    del state["ctc.norm.weight"]
    with pytest.raises(CheckpointError, match=r"ctc\.norm\.weight"):
        build_model(SMALL, state, "here")


def test_built_model_computes_what_the_saved_one_did(state: dict[str, torch.Tensor]) -> None:
    model = FunASR(SMALL).eval()
    model.load_state_dict(state)
    built = build_model(SMALL, state, "here")
    features, lengths = torch.randn(1, 16, 60), torch.tensor([60])
    with torch.no_grad():
        assert torch.equal(built.encode(features, lengths)[0], model.encode(features, lengths)[0])
    assert not built.training
    assert not any(buffer.is_meta for buffer in built.buffers())
