"""Packed bfloat16 layers and the encoder built of them, against plain arithmetic in higher precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.encoder import Encoder, EncoderConfig
from fun_asr.weights import packed
from fun_asr.weights.packed import PackedLinear, can_pack, pack_linears
from fun_asr.weights.precision import bfloat16_is_fast

needs_packing = pytest.mark.skipif(
    not can_pack(), reason="this torch has no packed bfloat16 products on this processor"
)

# Of the largest result: bfloat16 has 8 significant bits.
ROUNDING = 2**-8


@pytest.mark.skipif(not bfloat16_is_fast(torch.device("cpu")), reason="this processor multiplies no bfloat16")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch comes without oneDNN")
def test_where_bfloat16_is_fast_layers_can_be_packed() -> None:
    assert can_pack()


@needs_packing
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 512, 512), (3, 33, 7), (700, 96, 130), (2, 5, 64, 48)])
def test_linear_errs_by_rounding_only(shape: tuple[int, ...], bias: bool, gelu: bool) -> None:
    torch.manual_seed(0)
    *rows, width, out = shape
    linear = nn.Linear(width, out, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(*rows, width, dtype=torch.bfloat16)
    with torch.inference_mode():
        y = PackedLinear(linear, gelu=gelu)(x)
        expected = F.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
        expected = F.gelu(expected) if gelu else expected
    assert y.dtype is torch.bfloat16 and y.shape == expected.shape
    assert (y.double() - expected).abs().max() <= ROUNDING * expected.abs().max()


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(dim=64, num_layers=3, num_heads=4, ffn_dim=128, conv_dim=32, conv_kernel=7))
    for block in encoder.blocks:
        assert isinstance(block.conv, nn.Module)
        nn.init.normal_(block.conv.out.weight, std=0.1)
    return encoder.eval()


def features(lengths: list[int]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    rows = torch.randn(len(lengths), 80, max(lengths))
    for row, length in zip(rows, lengths, strict=True):
        row[:, length:] = 0
    return rows, torch.tensor(lengths)


@torch.inference_mode()
def encode(encoder: Encoder, rows: Tensor, lengths: Tensor) -> list[Tensor]:
    """Each utterance's valid frames."""
    encoded, frames = encoder(rows.to(encoder.norm.weight.dtype), lengths)
    return [row[:n].float() for row, n in zip(encoded, frames.tolist(), strict=True)]


@needs_packing
def test_packed_encoder_encodes_as_float32(encoder: Encoder) -> None:
    rows, lengths = features([200, 151, 90, 3])
    expected = encode(encoder, rows, lengths)
    encoder.to(torch.bfloat16)
    pack_linears(encoder)
    assert not any(isinstance(module, nn.Linear) for module in encoder.modules())
    for utterance, reference in zip(encode(encoder, rows, lengths), expected, strict=True):
        assert (utterance - reference).norm() <= 0.02 * reference.norm()


@pytest.mark.parametrize("packing", [pytest.param(True, marks=needs_packing), False])
def test_an_utterance_is_encoded_alike_alone_and_beside_longer_ones(encoder: Encoder, packing: bool) -> None:
    encoder.to(torch.bfloat16)
    if packing:
        pack_linears(encoder)
    rows, lengths = features([200, 90])
    beside = encode(encoder, rows, lengths)[1]
    (alone,) = encode(encoder, rows[1:, :, :90], lengths[1:])
    assert (alone - beside).norm() <= 1e-3 * alone.norm()


@pytest.mark.parametrize("fault", [AttributeError("no such operator"), RuntimeError("not on this processor")])
def test_without_the_operators_layers_stay_as_they_are(
    encoder: Encoder, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(packed.PackedLinear, "__init__", fail)
    monkeypatch.setattr(packed, "can_pack", can_pack.__wrapped__)
    before = [type(module) for module in encoder.to(torch.bfloat16).modules()]
    pack_linears(encoder)
    assert [type(module) for module in encoder.modules()] == before


def test_asking_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    can_pack.__wrapped__()
    assert torch.equal(torch.rand(3), expected)


def test_float32_layers_are_left_alone(encoder: Encoder) -> None:
    before = [type(module) for module in encoder.modules()]
    pack_linears(encoder)
    assert [type(module) for module in encoder.modules()] == before
