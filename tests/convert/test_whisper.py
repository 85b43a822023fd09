"""Converted weights compute what Whisper computes: the reference is a small random model of transformers."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from fun_asr.convert.whisper import load_ctranslate2
from fun_asr.errors import CheckpointError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights.ctranslate2 import read_variables

SMALL = ModelConfig(
    encoder=EncoderConfig(dim=64, num_layers=2, num_heads=4, ffn_dim=128, conv_dim=32, max_frames=100),
    ctc=CTCConfig(vocab_size=20, hidden_dim=32),
    decoder=DecoderConfig(
        vocab_size=200, dim=64, num_layers=2, num_heads=4, ffn_dim=128, num_experts=4, expert_dim=16, max_tokens=32
    ),
)


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=200,
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=100,
        max_target_positions=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        attn_implementation="eager",
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # biases and norms off their trivial initial values
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        # Whisper's encoder positions are fixed sinusoids, which neither model stores.
        positions = model.model.encoder.embed_positions.weight
        rates = torch.exp(-torch.log(torch.tensor(10_000.0)) / 31 * torch.arange(32))
        angles = torch.arange(100)[:, None] * rates
        positions.copy_(torch.cat([angles.sin(), angles.cos()], dim=1))
    return model


@pytest.fixture(scope="module")
def weights(whisper: WhisperForConditionalGeneration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("whisper") / "model.bin"
    write_ctranslate2(path, ctranslate2_variables(whisper))
    return path


@pytest.fixture(scope="module")
def converted(weights: Path) -> FunASR:
    model = FunASR(SMALL).eval()
    load_ctranslate2(model, weights)
    return model


def test_encoder_and_decoder_logits_equal_transformers(
    whisper: WhisperForConditionalGeneration, converted: FunASR
) -> None:
    features = torch.randn(2, 80, 200)
    tokens = torch.randint(3, 200, (2, 9))
    with torch.no_grad():
        theirs = whisper(input_features=features, decoder_input_ids=tokens)
        encoded, lengths = converted.encode(features, torch.tensor([200, 200]))
        logits = converted.decoder.embedding.logits(converted.decoder(tokens, encoded))
    assert lengths.tolist() == [100, 100]
    torch.testing.assert_close(encoded, theirs.encoder_last_hidden_state, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, theirs.logits, atol=1e-4, rtol=0)


def test_step_wise_logits_equal_transformers(whisper: WhisperForConditionalGeneration, converted: FunASR) -> None:
    features = torch.randn(2, 80, 200)
    tokens = torch.randint(3, 200, (2, 7))
    with torch.no_grad():
        theirs = whisper(input_features=features, decoder_input_ids=tokens).logits
        memory, _ = converted.encode(features, torch.tensor([200, 200]))
        cache = converted.decoder.start(memory, None)
        ours = [converted.decoder.step(tokens[:, :3], cache)]
        ours += [converted.decoder.step(tokens[:, i : i + 1], cache) for i in range(3, 7)]
    torch.testing.assert_close(torch.stack(ours, dim=1), theirs[:, 2:], atol=1e-4, rtol=0)


def test_missing_weight_is_named(whisper: WhisperForConditionalGeneration, tmp_path: Path) -> None:
    variables = ctranslate2_variables(whisper)
    del variables["decoder/layer_1/ffn/linear_0/weight"]
    write_ctranslate2(tmp_path / "model.bin", variables)
    with pytest.raises(CheckpointError, match=r"decoder/layer_1/ffn/linear_0/weight"):
        load_ctranslate2(FunASR(SMALL), tmp_path / "model.bin")


def test_other_sizes_are_refused(weights: Path) -> None:
    wider = dataclasses.replace(SMALL, decoder=dataclasses.replace(SMALL.decoder, ffn_dim=256))
    with pytest.raises(CheckpointError, match=r"shared\.up\.weight has shape \(128, 64\)"):
        load_ctranslate2(FunASR(wider), weights)


def write_ctranslate2(path: Path, variables: dict[str, np.ndarray]) -> None:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    data = struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        kind = {"float16": 4, "float32": 0}[str(array.dtype)]
        data += string(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        data += struct.pack("<BI", kind, array.nbytes) + array.tobytes()
    path.write_bytes(data)


def ctranslate2_variables(whisper: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """The same weights under CTranslate2's names."""
    state = {name.removeprefix("model."): tensor.numpy() for name, tensor in whisper.state_dict().items()}
    out: dict[str, np.ndarray] = {
        "decoder/embeddings/weight": state["decoder.embed_tokens.weight"],
        "decoder/position_encodings/encodings": state["decoder.embed_positions.weight"],
    }
    for conv in ("conv1", "conv2"):
        out |= {f"encoder/{conv}/{x}": state[f"encoder.{conv}.{x}"] for x in ("weight", "bias")}

    def norm(theirs: str, ours: str) -> None:
        out[f"{theirs}/gamma"], out[f"{theirs}/beta"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def linear(theirs: str, *ours: str) -> None:
        out[f"{theirs}/weight"] = np.concatenate([state[f"{x}.weight"] for x in ours])
        biases = [state.get(f"{x}.bias", np.zeros(len(state[f"{x}.weight"]), np.float32)) for x in ours]
        out[f"{theirs}/bias"] = np.concatenate(biases)

    for side in ("encoder", "decoder"):
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(2):
            theirs, ours = f"{side}/layer_{i}", f"{side}.layers.{i}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            if side == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{ours}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
    return out


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_cut_off_file_is_refused(weights: Path, tmp_path: Path, kept: float) -> None:
    data = weights.read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"model\.bin"):
        read_variables(path)
