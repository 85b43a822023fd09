"""The counts of `models.fun_asr.cost`: against hand counts, torch's own FLOP counter, and tensors really allocated."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fun_asr.configuration import load_yaml
from fun_asr.errors import ConfigError
from fun_asr.layers.cache import CACHE_STEP
from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.cost import count_decode_bytes, count_flops, count_parameters, describe
from fun_asr.models.fun_asr.load import build_shapes
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights.directory import load_stored, save_model
from fun_asr.weights.precision import ComputeType

CONFIGS = Path(__file__).parents[3] / "configs"
MODEL_CONFIGS = sorted(CONFIGS.glob("fun-asr-*.yaml"))
TEST = load_yaml(ModelConfig, CONFIGS / "fun-asr-test.yaml")
LARGE = load_yaml(ModelConfig, CONFIGS / "fun-asr-30b-a3b.yaml")


def hand_count(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, from the architecture's description alone."""
    e, c, d = config.encoder, config.ctc, config.decoder

    def block(width: int, conv_width: int, kernel: int, ffn: int) -> int:
        attention = 4 * width * width + 4 * width
        conv = 2 * conv_width * (width + 1) + conv_width * (kernel + 1) + 2 * conv_width + width * (conv_width + 1)
        return 3 * 2 * width + attention + conv + 2 * width * ffn + ffn + width

    D, norm = e.dim, 2 * e.dim
    attention = 4 * D * D + 4 * D
    stem = 3 * e.n_mels * D + D + 3 * D * D + D
    h = c.hidden_dim
    adaptor = c.kernel * h * (D + h) + 2 * h
    ctc_blocks = c.num_blocks * block(h, h // 2, c.block_kernel, 2 * h)
    return {
        "encoder": stem + e.num_layers * block(D, e.conv_dim, e.conv_kernel, e.ffn_dim) + norm,
        "ctc": adaptor + ctc_blocks + 2 * h + c.vocab_size * (h + 1),
        "decoder.embedding": (d.vocab_size + d.max_tokens) * D,
        "decoder.self_attention": d.num_layers * attention,
        "decoder.cross_attention": d.num_layers * attention,
        "decoder.shared_expert": d.num_layers * (2 * D * d.ffn_dim + d.ffn_dim + D),
        "decoder.router": d.num_layers * D * d.num_experts,
        "decoder.routed_experts": d.num_layers * d.num_experts * 3 * D * d.expert_dim,
        "decoder.norms": (3 * d.num_layers + 1) * norm,
    }


@pytest.mark.parametrize("path", MODEL_CONFIGS, ids=lambda path: path.stem)
def test_parts_equal_the_hand_count_and_the_network(path: Path) -> None:
    config = load_yaml(ModelConfig, path)
    network = build_shapes(config)
    counts = count_parameters(network)
    expected = hand_count(config)
    assert {part: counts[part].total for part in expected} == expected
    assert counts["decoder"].total == sum(p.numel() for p in network.decoder.parameters())
    assert counts["model"].total == sum(p.numel() for p in network.parameters()) == sum(expected.values())


@pytest.mark.parametrize("config", [TEST, LARGE], ids=["test", "30b"])
def test_active_parameters_equal_the_hand_count(config: ModelConfig) -> None:
    d = config.decoder
    D = d.dim
    layer = 4 * D * D + 4 * D  # self-attention
    layer += 2 * D * D + 2 * D  # cross-attention's queries and output
    layer += 2 * D * d.ffn_dim + d.ffn_dim + D
    layer += D * d.num_experts + d.num_experts_per_token * 3 * D * d.expert_dim
    layer += 3 * 2 * D
    active = d.vocab_size * D + D + d.num_layers * layer + 2 * D
    counts = count_parameters(build_shapes(config))
    assert counts["decoder"].active == counts["model"].active == active
    assert counts["encoder"].active == counts["ctc"].active == 0


def test_large_model_has_the_published_size_and_takes_no_memory() -> None:
    network = build_shapes(LARGE)
    assert all(parameter.is_meta for parameter in network.parameters())
    counts = count_parameters(network)
    assert 29e9 < counts["model"].total < 32e9
    assert 2.5e9 < counts["model"].active < 4e9
    assert counts["encoder"].total == pytest.approx(0.7e9, rel=0.02)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(("frames", "tokens"), [(200, 9), (93, 1)])
def test_flops_equal_those_that_torch_counts(frames: int, tokens: int, bare: bool) -> None:
    config = TEST
    if bare:
        config = dataclasses.replace(
            TEST,
            encoder=dataclasses.replace(TEST.encoder, conv_kernel=0),
            decoder=dataclasses.replace(TEST.decoder, num_experts=0),
        )
    network = FunASR(config).eval()
    counted = {}
    # The counter has no formula for the fused attention of CPUs.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            encoded, lengths = network.encode(torch.randn(1, 80, frames), torch.tensor([frames]))
        counted["encoder"] = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            network.ctc(encoded, lengths)
        counted["ctc"] = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            cache = network.decoder.start(encoded, None)
            for _ in range(tokens):
                network.decoder.step(torch.tensor([[3]]), cache)
        counted["decoder"] = counter.get_total_flops()
    counted["model"] = sum(counted.values())
    flops = count_flops(network, frames=frames, tokens=tokens)
    assert {part: count.total for part, count in flops.items()} == counted


def test_attention_is_what_grows_with_the_square_of_the_segment() -> None:
    network = build_shapes(TEST)
    short = count_flops(network, frames=1000, tokens=40)["encoder"]
    double = count_flops(network, frames=2000, tokens=80)["encoder"]
    assert double.attention == 4 * short.attention
    assert double.total - double.attention == 2 * (short.total - short.attention)


@pytest.mark.parametrize(
    ("compute_type", "dtype"), [(ComputeType.FLOAT32, torch.float32), (ComputeType.BFLOAT16, torch.bfloat16)]
)
def test_cache_bytes_equal_the_allocated_tensors(compute_type: ComputeType, dtype: torch.dtype) -> None:
    decoder = FunASR(TEST).decoder.to(dtype)
    cache = decoder.start(torch.randn(1, 150, 32, dtype=dtype), None)
    expected = count_decode_bytes(build_shapes(TEST), compute_type)
    decoder.step(torch.full((1, CACHE_STEP), 3), cache)
    own = sum(tensor.nbytes for tensor in cache.self_keys + cache.self_values)
    assert own == CACHE_STEP * expected.self_cache_per_token
    cross = sum(tensor.nbytes for tensor in cache.cross_keys + cache.cross_values)
    assert cross == 3 * expected.cross_cache_per_second


def test_weights_read_follow_the_compute_type() -> None:
    network = build_shapes(TEST)
    active = count_parameters(network)["decoder"].active
    assert count_decode_bytes(network, ComputeType.FLOAT32).weights_per_token == 4 * active
    assert count_decode_bytes(network, ComputeType.BFLOAT16).weights_per_token == 2 * active


def test_int8_weights_read_are_those_of_a_model_directory(tmp_path: Path) -> None:
    # With every expert chosen and one position, a token reads all of the decoder but what frames read.
    config = dataclasses.replace(TEST, decoder=dataclasses.replace(TEST.decoder, num_experts_per_token=6, max_tokens=1))
    state = {f"decoder.{name}": parameter for name, parameter in FunASR(config).decoder.named_parameters()}
    save_model(tmp_path, config, {n: p for n, p in state.items() if ".cross_attention.kv." not in n}, [], int8=True)
    stored = sum(tensor.nbytes for tensor in load_stored(tmp_path).values())
    assert count_decode_bytes(build_shapes(config), ComputeType.INT8).weights_per_token == stored


def test_a_segment_is_no_longer_than_the_encoders_input() -> None:
    config = dataclasses.replace(TEST, encoder=dataclasses.replace(TEST.encoder, max_frames=500))
    assert describe(config, tokens_per_second=4).segment_seconds == 10.0
    assert describe(config, tokens_per_second=4, segment_seconds=5).segment_seconds == 5


@pytest.mark.parametrize("tokens_per_second", [0.001, 5.0, float("inf"), float("nan")])
def test_tokens_that_do_not_fit_the_decoder_are_refused(tokens_per_second: float) -> None:
    with pytest.raises(ConfigError, match="1 to 128"):
        describe(TEST, tokens_per_second=tokens_per_second)
