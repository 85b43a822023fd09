"""Int8 inference: products against exact arithmetic, and a whole small network against float32."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.kernels import route
from fun_asr.kernels.products import int8_steps, plain_int8_steps
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.layers.moe import RoutedExperts
from fun_asr.models.fun_asr import load
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.load import load_network
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.weights import int8
from fun_asr.weights.directory import load_stored, save_model
from fun_asr.weights.int8 import (
    CompactInt8Embedding,
    FineInt8Embedding,
    Int8Embedding,
    Int8Experts,
    Int8Linear,
    compact_embedding,
    dequantize,
    quantize,
)
from fun_asr.weights.precision import ComputeType

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    encoder=EncoderConfig(dim=64, num_layers=2, num_heads=4, ffn_dim=128, conv_dim=32, conv_kernel=5, max_frames=100),
    ctc=CTCConfig(vocab_size=21, hidden_dim=32, kernel=3),
    decoder=DecoderConfig(
        vocab_size=90, dim=64, num_layers=2, num_heads=4, ffn_dim=128, num_experts=4, expert_dim=16, max_tokens=32
    ),
)


@pytest.fixture(params=["int8", "fallback"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Packed integers where this torch multiplies them, and the float32 that stands in elsewhere."""
    if request.param == "fallback":
        monkeypatch.setattr(int8, "int8_engine", lambda **_: None)
        monkeypatch.setattr(int8, "plain_int8_steps", lambda: None)
    elif int8.int8_engine() is None:
        pytest.skip("no int8 products here")
    return str(request.param)


def exact(x: Tensor, integers: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    y = x.double() @ (integers.double() * scale.double()).T
    return y if bias is None else y + bias.double()


def assert_within_input_rounding(
    x: Tensor, integers: Tensor, scale: Tensor, bias: Tensor | None, few_rows: bool = False
) -> None:
    linear = Int8Linear(integers, scale, bias, few_rows=few_rows)
    y, engine = linear(x), linear.engine
    span = x.amax(-1, keepdim=True).clamp(min=0) - x.amin(-1, keepdim=True).clamp(max=0)
    # Half a step an input, and up to as much again where the rounded zero pushes the range's end off the grid.
    half_step = torch.zeros(1) if engine is None else span.double() / (2 * engine.steps)
    bound = half_step * (integers.double() * scale.double()).abs().sum(dim=1)
    float32_rounding = 1e-5 * (1 + exact(x.abs(), integers.abs(), scale, None))
    assert y.dtype == torch.float32
    assert ((y - exact(x, integers, scale, bias)).abs() <= bound + float32_rounding).all()


@pytest.mark.parametrize("shape", [(1, 64), (16, 64), (3, 7, 33), (200, 512)])
@pytest.mark.parametrize("channels", [1, 48, 515])
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_errs_by_input_rounding_only(
    arithmetic: str, shape: tuple[int, ...], channels: int, with_bias: bool
) -> None:
    torch.manual_seed(0)
    integers, scale = quantize("linear.weight", torch.randn(channels, shape[-1]))
    bias = torch.randn(channels) if with_bias else None
    for few_rows in (False, True):
        assert_within_input_rounding(torch.randn(shape), integers, scale, bias, few_rows)


@pytest.mark.parametrize("weight", [127, -127])
@pytest.mark.parametrize("values", [(1.0, 1.0), (-1.0, -1.0), (1.0, -1.0), (1e4, 1e4), (1e-6, 3e-6)])
def test_largest_products_do_not_saturate(arithmetic: str, weight: int, values: tuple[float, float]) -> None:
    integers = torch.full((40, 512), weight, dtype=torch.int8)
    integers[1::2, ::2] *= -1
    x = torch.tensor(values).repeat(256).repeat(5, 1)
    assert_within_input_rounding(x, integers, torch.full((40, 1), 0.01), None)


def test_zero_rows_and_no_rows(arithmetic: str) -> None:
    integers, scale = quantize("linear.weight", torch.randn(8, 16))
    bias = torch.randn(8)
    linear = Int8Linear(integers, scale, bias)
    torch.testing.assert_close(linear(torch.zeros(2, 16)), bias.expand(2, 8))
    assert linear(torch.zeros(0, 16)).shape == (0, 8)


def test_a_row_does_not_depend_on_its_batch(arithmetic: str) -> None:
    torch.manual_seed(0)
    linear = Int8Linear(*quantize("linear.weight", torch.randn(48, 64)))
    x = torch.randn(9, 64)
    x[4] *= 1000
    torch.testing.assert_close(linear(x)[:4], linear(x[:4]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Int8Embedding, CompactInt8Embedding, FineInt8Embedding])
def test_embedding_looks_up_exactly_and_scores(arithmetic: str, kind: type[Int8Embedding]) -> None:
    if kind is FineInt8Embedding and arithmetic == "fallback":
        pytest.skip("needs int8 products")
    torch.manual_seed(0)
    integers, scale = quantize("embedding.weight", torch.randn(50, 32))
    embedding = kind(integers, scale)
    tokens = torch.tensor([[0, 49], [7, 7]])
    assert torch.equal(embedding(tokens), (integers.float() * scale)[tokens])
    x = torch.randn(2, 32)
    torch.testing.assert_close(embedding.logits(x).double(), exact(x, integers, scale, None), rtol=0.05, atol=0.5)


@pytest.mark.parametrize(("plain", "kind"), [(True, CompactInt8Embedding), (False, FineInt8Embedding)])
def test_an_embedding_is_held_once_where_that_is_as_fast(
    plain: bool, kind: type[Int8Embedding], monkeypatch: pytest.MonkeyPatch
) -> None:
    if int8_steps() is None:
        pytest.skip("no int8 products here")
    monkeypatch.setattr(int8, "has_plain_int8", lambda: plain)
    assert type(compact_embedding(*quantize("embedding.weight", torch.randn(50, 32)))) is kind


def test_an_embedding_held_once_scores_as_one_held_twice(arithmetic: str) -> None:
    torch.manual_seed(0)
    integers, scale = quantize("embedding.weight", torch.randn(5000, 64))
    x = torch.randn(3, 2, 64)
    once, twice = (kind(integers, scale).logits(x) for kind in (CompactInt8Embedding, Int8Embedding))
    engine = int8.int8_engine()
    # Else the two round their inputs to steps of different size.
    same = engine is None or engine.steps == plain_int8_steps()
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-3 if same else 0.02 * float(twice.abs().max()))


def test_experts_equal_the_grouped_ones(arithmetic: str) -> None:
    torch.manual_seed(0)
    grouped = RoutedExperts(64, 4, 16)
    nn.init.normal_(grouped.down_EDF, std=0.2)
    integers, scale = quantize("ffn.experts.gate_up_EHD", grouped.gate_up_EHD.detach())
    grouped.gate_up_EHD.data = integers.float() * scale
    dense = Int8Experts(integers, scale, grouped.down_EDF)
    x = torch.randn(20, 64)
    routing = route(torch.randn(20, 4), 2)
    expected = grouped(x, routing)
    error = (dense(x, routing) - expected).abs().max() / expected.std()
    assert error < (0.2 if arithmetic == "int8" else 1e-4)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = FunASR(CONFIG)
    for name, parameter in model.named_parameters():
        if name.endswith((".conv.out.weight", "down_EDF")):
            nn.init.normal_(parameter, std=0.1)
        if name.endswith("router.gate.weight"):
            nn.init.normal_(parameter, std=0.5)  # rounding flips a choice between experts that are nearly equal
    nn.init.normal_(model.decoder.embedding.weight, std=0.2)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def directories(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name in ("int8", "float32"):
        save_model(root / name, CONFIG, state, [], int8=name == "int8")
    return {name: root / name for name in ("int8", "float32")}


@torch.inference_mode()
def outputs(network: FunASR) -> tuple[Tensor, Tensor]:
    """CTC log-probabilities of the valid frames, and the decoder's logits after a prompt and one more token."""
    torch.manual_seed(1)
    dtype = network.encoder.conv1.weight.dtype
    features = torch.randn(6, 80, 120).to(dtype)
    lengths = torch.tensor([120, 100, 90, 61, 30, 2])
    for row, length in zip(features, lengths.tolist(), strict=True):
        row[:, length:] = 0
    encoded, frames = network.encode(features, lengths)
    log_probs, ctc_frames = network.ctc(encoded, frames)
    log_probs = log_probs[torch.arange(log_probs.shape[1]) < ctc_frames[:, None]]
    mask = torch.arange(encoded.shape[1]) < frames[:, None]
    cache = network.decoder.start(encoded, mask)
    first = network.decoder.step(torch.randint(90, (6, 4)), cache)
    return log_probs, torch.stack([first, network.decoder.step(torch.randint(90, (6, 1)), cache)])


@pytest.mark.parametrize("frames_in", ["bfloat16", "float32"])
@pytest.mark.parametrize("stored", ["int8", "float32"])
def test_int8_network_chooses_as_float32(
    arithmetic: str, directories: dict[str, Path], stored: str, frames_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "bfloat16_is_fast", lambda device: frames_in == "bfloat16")
    reference = outputs(load_network(directories["int8"], CPU, ComputeType.FLOAT32))
    for scores, expected in zip(
        outputs(load_network(directories[stored], CPU, ComputeType.INT8)), reference, strict=True
    ):
        assert scores.shape == expected.shape and scores.dtype == torch.float32
        # A float32 directory keeps its convolutions and the experts' outputs in float32.
        tolerance = 0.35 if arithmetic == "int8" else {"int8": 1e-4, "float32": 0.1}[stored]
        tolerance = max(tolerance, 0.1 if frames_in == "bfloat16" else 0)
        assert (scores - expected).abs().max() <= tolerance * expected.std()
        first, second = expected.topk(2).values.unbind(-1)
        clear = first - second > tolerance * expected.std()  # a random network has near ties
        assert clear.float().mean() > 0.2
        assert torch.equal(scores.argmax(-1)[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_int8_network_has_int8_matrices_and_leaves_the_router_alone(
    directories: dict[str, Path], bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "bfloat16_is_fast", lambda device: bfloat16)
    network = load_network(directories["int8"], CPU, ComputeType.INT8)
    kept = {name: child for name, child in network.named_modules() if isinstance(child, nn.Linear)}
    routers = {f"decoder.blocks.{i}.ffn.router.gate" for i in range(2)}
    of_tokens = {name for name in kept if name.startswith("decoder.") and not name.endswith("cross_attention.kv")}
    assert of_tokens == routers
    # What works on all frames at once is int8 too, but where the CPU multiplies bfloat16.
    int8 = [name for name, child in network.named_modules() if isinstance(child, Int8Linear)]
    of_frames = [name for name in int8 if name.startswith(("encoder.", "ctc.")) or name.endswith("cross_attention.kv")]
    assert bool(of_frames) != bfloat16
    assert isinstance(network.decoder.embedding, Int8Embedding)
    assert isinstance(network.decoder.blocks[0].ffn.experts, Int8Experts)
    assert not network.training
    assert not any(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("compute_type", [ComputeType.FLOAT32, ComputeType.BFLOAT16])
def test_float_network_holds_the_dequantised_parameters(
    directories: dict[str, Path], compute_type: ComputeType
) -> None:
    network = load_network(directories["int8"], CPU, compute_type)
    dtype = getattr(torch, compute_type.value)
    expected = dequantize(load_stored(directories["int8"]), dtype)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    assert all(score.isfinite().all() for score in outputs(network))


def test_int8_on_a_gpu_is_refused(directories: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="bfloat16 or float32"):
        load_network(directories["int8"], torch.device("cuda"), ComputeType.INT8)


def test_missing_matrix_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    lacking = {name: tensor for name, tensor in state.items() if name != "encoder.blocks.0.ffn.up.weight"}
    save_model(tmp_path, CONFIG, lacking, [], int8=True)
    with pytest.raises(CheckpointError, match=r"encoder\.blocks\.0\.ffn\.up\.weight"):
        load_network(tmp_path, CPU, ComputeType.INT8)


def test_loading_prints_nothing(directories: dict[str, Path]) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from fun_asr.models.fun_asr.load import load_network;"
        "from fun_asr.weights.precision import ComputeType;"
        "load_network(Path(sys.argv[1]), torch.device('cpu'), ComputeType.INT8)"
    )
    command = [sys.executable, "-c", code, str(directories["int8"])]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout + result.stderr == ""
