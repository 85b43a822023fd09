"""The packing of int4 weights."""

import pytest
import torch

from fun_asr.weights.int4 import dequantize_int4, quantize_int4


@pytest.mark.parametrize("shape", [(3, 128), (2, 5, 256), (4, 100), (1, 1)])
def test_shapes_and_error(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    nibbles, scale = quantize_int4(weight)
    groups = -(-shape[-1] // 128)
    assert nibbles.dtype == torch.uint8 and nibbles.shape == (*shape[:-1], groups * 64)
    assert scale.dtype == torch.bfloat16 and scale.shape == (*shape[:-1], groups)
    error = dequantize_int4(nibbles, scale, shape[-1]) - weight
    # Uniform steps of a seventh of a normal group's largest weight: about a tenth of the weights' size.
    assert error.norm() < 0.125 * weight.norm()


def test_what_four_bits_hold_comes_back_exactly() -> None:
    integers = torch.arange(-8, 8).repeat(2, 8).float()
    integers[1] = -integers[1].clamp(-7, 8)
    weight = integers * torch.tensor([[0.25], [2.0]])
    nibbles, scale = quantize_int4(weight)
    assert torch.equal(dequantize_int4(nibbles, scale, 128), weight)


def test_a_group_with_an_outlier_leaves_the_others_alone() -> None:
    torch.manual_seed(0)
    weight = torch.randn(1, 256)
    alone = dequantize_int4(*quantize_int4(weight), 256)
    weight[0, 3] = 100.0
    beside = dequantize_int4(*quantize_int4(weight), 256)
    assert torch.equal(alone[:, 128:], beside[:, 128:])
    assert abs(beside[0, 3].item() - 100.0) < 20


def test_zeros_stay_zero() -> None:
    nibbles, scale = quantize_int4(torch.zeros(2, 128))
    assert torch.equal(dequantize_int4(nibbles, scale, 128), torch.zeros(2, 128))
    assert scale.isfinite().all()
