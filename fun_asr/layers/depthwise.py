"""Depth-wise convolution over time, on the path of a CPU that is fast, forwards and in training.

Shapes: B batch, L frames, D channels, K taps (odd).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1) -> Tensor:
    """Each channel of `[B, L, D]` convolved with its own taps, zeros being beyond the ends: `[B, ceil(L / stride), D]`.

    Arguments:
        x: `[B, L, D]`, in the weight's dtype or under autocast.
        weight: `[D, 1, K]` or `[D, 1, 1, K]`, that of a Conv1d or Conv2d with as many groups as channels.
        bias: `[D]`.
        stride: frames from one output to the next.
    """
    weight = weight.view(weight.shape[0], 1, 1, -1)
    if x.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad and stride == 1:
        return _Depthwise.apply(x, weight, bias)  # type: ignore[no-any-return]
    return _convolved(x, weight, bias, stride)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1) -> Tensor:
    # [B, L, D] seen as a channels-last picture of height 1: the fast depth-wise path, and no copy.
    picture = x.transpose(1, 2).unsqueeze(2)
    padding = (0, weight.shape[-1] // 2)
    y = F.conv2d(picture, weight, bias, stride=(1, stride), padding=padding, groups=len(weight))
    return y.squeeze(2).transpose(1, 2)


class _Depthwise(torch.autograd.Function):
    """The same with its gradient as products: oneDNN's takes up to half a second for two minutes of sound."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _convolved(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        taps, frames = weight.shape[-1], x.shape[1]
        grad = grads[0].to(x.dtype).contiguous()
        padded = F.pad(x, (0, 0, taps // 2, taps // 2))
        products = [(padded[:, tap : tap + frames] * grad).sum(dim=(0, 1), dtype=weight.dtype) for tap in range(taps)]
        grad_weight = torch.stack(products, dim=1).view_as(weight)
        grad_bias = grad.sum(dim=(0, 1), dtype=weight.dtype) if ctx.has_bias else None
        grad_x = _convolved(grad, weight.flip(-1).to(x.dtype), None) if ctx.needs_input_grad[0] else None
        return grad_x, grad_weight, grad_bias
