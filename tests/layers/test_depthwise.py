"""The depth-wise convolution beside torch's own, forwards and in its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.layers.depthwise import depthwise_conv


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    channels, taps = weight.shape[0], weight.shape[-1]
    return F.conv1d(
        x.transpose(1, 2), weight.reshape(channels, 1, taps), bias, stride, taps // 2, groups=channels
    ).transpose(1, 2)


@pytest.mark.parametrize(("frames", "taps", "stride"), [(1, 3, 1), (7, 15, 1), (30, 5, 1), (31, 5, 2)])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("ranks", [3, 4])
def test_outputs_and_gradients_are_those_of_torch(
    frames: int, taps: int, stride: int, has_bias: bool, ranks: int
) -> None:
    torch.manual_seed(frames)
    x = torch.randn(3, frames, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, *[1] * (ranks - 2), taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True) if has_bias else None
    inputs = [x, weight] if bias is None else [x, weight, bias]
    wanted = reference(x, weight, bias, stride)
    upstream = torch.randn_like(wanted)
    expected = torch.autograd.grad(wanted, inputs, upstream)

    found = depthwise_conv(x, weight, bias, stride=stride)

    torch.testing.assert_close(found, wanted)
    for gradient, other in zip(torch.autograd.grad(found, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(gradient, other)
    with torch.no_grad():
        torch.testing.assert_close(depthwise_conv(x, weight, bias, stride=stride), wanted)


def test_under_autocast_the_taps_keep_their_float32_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 40, 8, requires_grad=True)
    weight = torch.randn(8, 1, 1, 5, requires_grad=True)
    bias = torch.randn(8, requires_grad=True)
    expected = torch.autograd.grad(reference(x, weight, bias).square().sum(), [x, weight, bias])

    with torch.autocast("cpu", torch.bfloat16):
        found = depthwise_conv(x, weight, bias)

    assert found.dtype is torch.bfloat16
    gradients = torch.autograd.grad(found.float().square().sum(), [x, weight, bias])
    for gradient, other in zip(gradients, expected, strict=True):
        assert gradient.dtype is torch.float32
        torch.testing.assert_close(gradient, other, rtol=0.05, atol=0.02 * float(other.abs().max()))


def test_a_frozen_convolution_passes_the_gradient_on() -> None:
    x = torch.randn(2, 9, 4, requires_grad=True)
    weight = torch.randn(4, 1, 3)

    gradient = torch.autograd.grad(depthwise_conv(x, weight).sum(), x)[0]

    torch.testing.assert_close(gradient, torch.autograd.grad(reference(x, weight, None).sum(), x)[0])
