"""SAN-M blocks: self-attention beside a memory of neighbouring frames (Gao et al. 2020, arXiv 2006.01713).

Shapes: B utterances, L frames, D width.
Padding is masked in attention and in the memory, so an utterance's output does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import SelfAttention, length_mask
from fun_asr.layers.depthwise import depthwise_conv
from fun_asr.layers.encoder import sinusoids

__all__ = ["ReLUFeedForward", "SANMBlock", "SANMConfig", "SANMEncoder"]


@dataclass(frozen=True, kw_only=True)
class SANMConfig:
    """Sizes of a SAN-M encoder."""

    n_mels: int = 80
    stacked: int = 7
    """Frames of 10 ms in one input frame."""
    dim: int = 512
    ffn_dim: int = 2048
    num_heads: int = 4
    num_layers: int = 50
    """Blocks before the first norm."""
    num_more_layers: int = 20
    """Blocks after it, which upstream calls those of timestamp prediction; whoever reads the encoder reads these."""
    kernel: int = 11
    """Frames that the memory spans, odd."""
    eps: float = 1e-5

    @property
    def in_dim(self) -> int:
        """Width of an input frame."""
        return self.n_mels * self.stacked


class MemoryAttention(SelfAttention):
    """Self-attention, and beside it a depth-wise convolution over the values with a residual.

    Arguments:
        in_dim: width of the input.
        dim: width D of the output.
        num_heads: of the attention.
        kernel: frames that the memory spans, odd.
    """

    def __init__(self, in_dim: int, dim: int, num_heads: int, kernel: int) -> None:
        super().__init__(dim, num_heads)
        self.qkv = nn.Linear(in_dim, 3 * dim)
        self.memory = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        qkv = self.qkv(x)
        values = qkv[..., -self.memory.in_channels :]
        if mask is not None:
            values = values * mask[..., None].to(values.dtype)
        remembered = depthwise_conv(values.to(self.memory.weight.dtype), self.memory.weight)
        found: Tensor = self.attended(qkv, mask) + (remembered + values)
        return found


class ReLUFeedForward(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())  # type: ignore[no-any-return]


class SANMBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual where the width stays.

    Arguments:
        dim: width D of the output.
        num_heads: of the attention.
        ffn_dim: width of the feed-forward layer.
        in_dim: width of the input; None for D.
        kernel: frames that the memory spans, odd; 0 leaves it out.
        eps: of the norms.
    """

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, *, in_dim: int | None = None, kernel: int = 0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        in_dim = dim if in_dim is None else in_dim
        self.attention_norm = nn.LayerNorm(in_dim, eps)
        self.attention: SelfAttention = (
            MemoryAttention(in_dim, dim, num_heads, kernel) if kernel else SelfAttention(dim, num_heads)
        )
        self.ffn_norm = nn.LayerNorm(dim, eps)
        self.feed_forward = ReLUFeedForward(dim, ffn_dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`[B, L, in_dim]`, in any floating-point type, to `[B, L, D]`."""
        # In the first block positions of 1 stand beside features of hundreds: bfloat16 would not tell them apart.
        norm = self.attention_norm
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        normed = F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).to(norm.weight.dtype)
        attended = self.attention(normed, mask)
        x = x + attended if x.shape[-1] == attended.shape[-1] else attended
        return x + self.feed_forward(self.ffn_norm(x))  # type: ignore[no-any-return]


class SANMEncoder(nn.Module):
    """Stacked filter banks to frames every 60 ms."""

    def __init__(self, config: SANMConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(
            SANMBlock(
                config.dim,
                config.num_heads,
                config.ffn_dim,
                in_dim=None if number else config.in_dim,
                kernel=config.kernel,
                eps=config.eps,
            )
            for number in range(config.num_layers + config.num_more_layers)
        )
        self.middle_norm = nn.LayerNorm(config.dim, config.eps)
        self.last_norm = nn.LayerNorm(config.dim, config.eps)

    def forward(self, features: Tensor, lengths_B: Tensor) -> Tensor:
        """`[B, L, in_dim]` to `[B, L, D]`, of which `lengths_B` frames count in each utterance."""
        config, frames = self.config, features.shape[1]
        positions = sinusoids(frames + 1, config.in_dim)[1:].to(features.device)  # counted from one
        x = features.float() * config.dim**0.5 + positions
        mask = length_mask(lengths_B, frames)
        for number, block in enumerate(self.blocks):
            x = block(x, mask)
            if number + 1 == config.num_layers:
                x = self.middle_norm(x)
        last: Tensor = self.last_norm(x)
        return last
