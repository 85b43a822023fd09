"""Conformer blocks with BatchNorm, and the subsampling before them (Gulati et al. 2020; Rekesh et al. 2023).

Shapes: B utterances, T feature frames, M mel bins, L encoder frames, D width, C channels.
Padding is masked before every convolution and in attention, so an utterance's output does not depend on its batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import length_mask
from fun_asr.layers.depthwise import depthwise_conv
from fun_asr.layers.relative_attention import BlockAttention, RelativeAttention

__all__ = ["ConformerBlock", "ConvolutionModule", "SiLUFeedForward", "Subsampling", "ready_for_inference"]


class SiLUFeedForward(nn.Module):
    """Two linear layers with a SiLU between them."""

    def __init__(self, dim: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden, bias=bias)
        self.activation: nn.Module = nn.SiLU(inplace=True)
        self.linear2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.activation(self.linear1(x)))  # type: ignore[no-any-return]


class ConvolutionModule(nn.Module):
    """Conformer's convolution module: a gated layer, a depth-wise convolution, BatchNorm, SiLU, a linear layer.

    Arguments:
        dim: width D.
        hidden: channels of the depth-wise convolution.
        kernel: frames that it spans, odd.
        bias: whether the linear layers have biases.
        depthwise_bias: whether the depth-wise convolution has them.
        stride: 2 halves the number of frames.
    """

    def __init__(
        self, dim: int, hidden: int, kernel: int, *, bias: bool = True, depthwise_bias: bool = True, stride: int = 1
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 2 * hidden, bias=bias)
        self.depthwise = nn.Conv1d(
            hidden, hidden, kernel, stride=stride, padding=kernel // 2, groups=hidden, bias=depthwise_bias
        )
        self.norm: nn.BatchNorm1d | None = nn.BatchNorm1d(hidden)
        self.project = nn.Linear(hidden, dim, bias=bias)

    def fold_norm(self) -> None:
        """Make the normalisation a part of the convolution, for inference: a factor and an offset of each channel."""
        norm, conv = self.norm, self.depthwise
        if norm is None:
            return
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        offset = -norm.running_mean.double() if conv.bias is None else conv.bias.double() - norm.running_mean.double()
        dtype = conv.weight.dtype
        bias = (offset * factor + norm.bias.double()).to(dtype)
        conv.weight = nn.Parameter((conv.weight.double() * factor[:, None, None]).to(dtype), requires_grad=False)
        conv.bias = nn.Parameter(bias, requires_grad=False)
        self.norm = None

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`, or `[B, ceil(L / 2), D]` with a stride of 2."""
        y = F.glu(self.expand(x), dim=-1)
        if mask is not None:
            y = y * mask[..., None].to(y.dtype)
        conv = self.depthwise
        y = depthwise_conv(y.to(conv.weight.dtype), conv.weight, conv.bias, stride=conv.stride[0])
        if self.norm is not None:
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return self.project(F.silu(y))  # type: ignore[no-any-return]


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each pre-norm with a residual, and a norm.

    Arguments:
        dim: width D.
        attention: of frames and their mask.
        conv: of frames and their mask; with a stride of 2 the block halves the frames, and the mean of each pair goes
            past the convolution.
        ffn_dim: width of the feed-forward layers.
        bias: whether they have biases.
    """

    def __init__(
        self,
        dim: int,
        attention: RelativeAttention | BlockAttention,
        conv: ConvolutionModule,
        ffn_dim: int,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.halves = conv.depthwise.stride[0] == 2
        self.feed_forward1 = SiLUFeedForward(dim, ffn_dim, bias=bias)
        self.self_attn = attention
        self.conv = conv
        self.feed_forward2 = SiLUFeedForward(dim, ffn_dim, bias=bias)
        self.norm_feed_forward1 = nn.LayerNorm(dim)
        self.norm_self_att = nn.LayerNorm(dim)
        self.norm_conv = nn.LayerNorm(dim)
        self.norm_feed_forward2 = nn.LayerNorm(dim)
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, L, D]` to `[B, L, D]`, or to `[B, L // 2, D]` where the block halves."""
        x = x + 0.5 * self.feed_forward1(self.norm_feed_forward1(x))
        x = x + self.self_attn(self.norm_self_att(x), mask)
        convolved = self.conv(self.norm_conv(x), mask)
        if self.halves:
            pairs = x.shape[1] // 2
            x = x[:, : 2 * pairs].unflatten(1, (pairs, 2)).mean(dim=2)
            convolved = convolved[:, :pairs]
        x = x + convolved
        x = x + 0.5 * self.feed_forward2(self.norm_feed_forward2(x))
        return self.norm_out(x)  # type: ignore[no-any-return]


class Subsampling(nn.Module):
    """Strided convolutions over time and mel bins, all but the first depth-wise and separable, and a linear layer.

    Arguments:
        n_mels: M.
        channels: C.
        dim: width D of the output.
        halvings: how often time and bins are halved.
    """

    def __init__(self, n_mels: int, channels: int, dim: int, halvings: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels) for _ in range(halvings - 1)
        )
        self.pointwise = nn.ModuleList(nn.Linear(channels, channels) for _ in range(halvings - 1))
        bins = n_mels
        for _ in range(halvings):
            bins = (bins + 1) // 2
        self.linear = nn.Linear(channels * bins, dim)

    def forward(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, M]`, zero beyond each utterance's frames, to `[B, L, D]` and lengths."""
        x = features.unsqueeze(1).to(memory_format=torch.channels_last)
        x = F.relu_(self.first(x))
        lengths_B = (lengths_B + 1) // 2
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = depthwise(_without_padding(x, lengths_B))
            lengths_B = (lengths_B + 1) // 2
            x = F.relu_(pointwise(x.permute(0, 2, 3, 1)).to(x.dtype)).permute(0, 3, 1, 2)
        # The linear layer's input is ordered by channel, then bin.
        return self.linear(_without_padding(x, lengths_B).transpose(1, 2).flatten(2)), lengths_B


def _without_padding(x: Tensor, lengths_B: Tensor) -> Tensor:
    """`[B, C, T, M]` with zeros beyond each utterance's frames."""
    mask = length_mask(lengths_B, x.shape[2])
    return x if mask is None else x * mask[:, None, :, None].to(x.dtype)


def ready_for_inference(model: nn.Module) -> None:
    """Fold every BatchNorm of a model and join the projections that share an input; its weights may be mere shapes."""
    for module in list(model.modules()):
        if isinstance(module, ConvolutionModule):
            module.fold_norm()
        elif isinstance(module, RelativeAttention | BlockAttention):
            module.join_projections()
