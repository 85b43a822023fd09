"""BatchNorm at inference is a factor and an offset of each channel: a part of the convolution before it."""

from __future__ import annotations

from torch import Tensor

from fun_asr.weights.assemble import Recipe

__all__ = ["folded_norm"]

NORM_EPSILON = 1e-5  # torch's and NeMo's


def folded_norm(ours: str, module: str, *, conv_bias: bool) -> dict[str, Recipe]:
    """How a depth-wise convolution comes about that has the BatchNorm after it in its weights: a factor and an offset.

    Arguments:
        ours: the convolution here.
        module: the published module with a `depthwise_conv` and a `norm`.
        conv_bias: whether the published convolution has biases.
    """

    def factor(weight: Tensor, variance: Tensor) -> Tensor:
        return weight.double() / (variance.double() + NORM_EPSILON).sqrt()

    def kernel(parts: list[Tensor]) -> Tensor:
        return (parts[0].double() * factor(parts[1], parts[2])[:, None, None]).float()

    def offset(parts: list[Tensor]) -> Tensor:
        weight, bias, mean, variance = parts[:4]
        before = parts[4].double() - mean.double() if conv_bias else -mean.double()
        return (before * factor(weight, variance) + bias.double()).float()

    norm = tuple(f"{module}.norm.{part}" for part in ("weight", "bias", "running_mean", "running_var"))
    theirs = f"{module}.depthwise_conv"
    return {
        f"{ours}.weight": Recipe((f"{theirs}.weight", norm[0], norm[3]), kernel),
        f"{ours}.bias": Recipe((*norm, f"{theirs}.bias") if conv_bias else norm, offset),
    }
