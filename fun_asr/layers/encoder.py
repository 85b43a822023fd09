"""The conformer-style encoder: a convolution stem, then attention, convolution and feed-forward blocks.

Shapes: B batch, M mel bins, T log-mel frames (10 ms), L encoder frames (20 ms), D width, H heads.
Padding is masked in attention and in every convolution, so an utterance's output does not depend on its batch.
Sources: Radford et al. 2022 (Whisper: stem, attention, feed-forward), Gulati et al. 2020 (Conformer: convolution).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import SelfAttention, length_mask
from fun_asr.layers.feed_forward import FeedForward

ENCODER_FRAMES_PER_SECOND = 50


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of the conformer-style encoder."""

    n_mels: int = 80
    """Log-mel bins of the input."""
    dim: int = 512
    """Width of the residual stream."""
    num_layers: int = 6
    num_heads: int = 8
    ffn_dim: int = 2048
    conv_dim: int = 256
    """Width of the convolution module."""
    conv_kernel: int = 15
    """Frames (20 ms each) that the depth-wise convolution of each block spans; 0 leaves the module out."""
    max_frames: int = 1500
    """Longest input in encoder frames: 1500 are 30 s."""


def sinusoids(length: int, dim: int, max_timescale: float = 10_000.0) -> Tensor:
    """Sinusoidal positions `[length, dim]`: sines in the first half of the width, cosines in the second."""
    # On the CPU even while a model is built without memory: arange on the meta device imports two seconds of torch.
    rates = torch.exp(-math.log(max_timescale) / (dim // 2 - 1) * torch.arange(dim // 2, device="cpu"))
    angles = torch.arange(length, device="cpu")[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ConvModule(nn.Module):
    """Conformer's convolution module with LayerNorm; its output projection starts at zero: at first it adds nothing."""

    def __init__(self, dim: int, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * width)
        self.depthwise = nn.Conv2d(width, width, (1, kernel), padding=(0, kernel // 2), groups=width)
        self.depthwise_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = F.glu(self.gate(self.norm(x)), dim=-1)
        if mask is not None:
            y = y * mask[..., None]
        # [B, L, width] seen as a channels-last picture of height 1: the fast depth-wise path, and no copy.
        y = self.depthwise(y.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return self.out(F.silu(self.depthwise_norm(y)))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Pre-norm attention, convolution and feed-forward, each with a residual."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = SelfAttention(config.dim, config.num_heads)
        self.conv = ConvModule(config.dim, config.conv_dim, config.conv_kernel) if config.conv_kernel else None
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.ffn = FeedForward(config.dim, config.ffn_dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        if self.conv is not None:
            x = x + self.conv(x, mask)
        return x + self.ffn(self.ffn_norm(x))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Log-mel `[B, M, T]` to representations `[B, T / 2, D]` at 50 Hz."""

    positions: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.n_mels, config.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(config.max_frames, config.dim), persistent=False)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Arguments:
            features: log-mel `[B, M, T]`, zero beyond each utterance's frames.
            lengths_B: log-mel frames of each utterance, int64 `[B]`.

        Returns:
            representations `[B, L, D]` with L = ceil(T / 2), zero beyond each utterance's frames, and the lengths
            ceil(lengths_B / 2).

        Raises:
            ValueError: for an utterance longer than `max_frames` encoder frames.
        """
        frames = features.shape[-1]
        mask_T = length_mask(lengths_B, frames)
        x = F.gelu(self.conv1(features))
        if mask_T is not None:
            x = x * mask_T[:, None]
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # [B, L, D]
        if x.shape[1] > self.config.max_frames:
            raise ValueError(f"{x.shape[1]} encoder frames; at most {self.config.max_frames} fit the encoder")
        lengths_B = (lengths_B + 1) // 2
        mask = length_mask(lengths_B, x.shape[1])
        x = x + self.positions[: x.shape[1]].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return (x if mask is None else x * mask[..., None]), lengths_B
