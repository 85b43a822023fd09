"""The conformer-style encoder: a convolution stem, then attention, convolution and feed-forward blocks.

Shapes: B batch, M mel bins, T log-mel frames (10 ms), L encoder frames (20 ms), D width, H heads.
Padding is masked in attention and in every convolution, so an utterance's output does not depend on its batch.
Sources: Radford et al. 2022 (Whisper: stem, attention, feed-forward), Gulati et al. 2020 (Conformer: convolution).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.model.config import EncoderConfig

QUERIES_AT_ONCE = 512  # on the CPU: the scores of 30 s are 36 MB, twice


def sinusoids(length: int, dim: int, max_timescale: float = 10_000.0) -> Tensor:
    """Sinusoidal positions `[length, dim]`: sines in the first half of the width, cosines in the second."""
    # On the CPU even while a model is built without memory: arange on the meta device imports two seconds of torch.
    rates = torch.exp(-math.log(max_timescale) / (dim // 2 - 1) * torch.arange(dim // 2, device="cpu"))
    angles = torch.arange(length, device="cpu")[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def length_mask(lengths_B: Tensor, frames: int) -> Tensor | None:
    """True for the valid frames, bool `[B, frames]`; None when every utterance fills them, so nothing needs masking."""
    if int(lengths_B.min()) >= frames:
        return None
    return torch.arange(frames, device=lengths_B.device) < lengths_B[:, None]


class SelfAttention(nn.Module):
    """Multi-head self-attention over the valid frames."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        B, L, D = x.shape
        qkv = self.qkv(x)
        if qkv.dtype is torch.bfloat16 and qkv.device.type == "cpu" and not torch.is_grad_enabled():
            return self.out(self._attend_each(qkv, mask))  # type: ignore[no-any-return]
        q, k, v = qkv.view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, L, D / H] each
        keys = None if mask is None else mask[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(y.transpose(1, 2).reshape(B, L, D))  # type: ignore[no-any-return]

    def _attend_each(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Two plain products an utterance: two thirds of the time of torch's fused CPU kernel, and none for padding.

        Arguments:
            qkv: `[B, L, 3 * D]` bfloat16.

        Returns:
            `[B, L, D]`, zero where the mask is False.
        """
        B, L, _ = qkv.shape
        H = self.num_heads
        y = qkv.new_zeros(B, L, H, qkv.shape[-1] // (3 * H))
        for b, length in enumerate([L] * B if mask is None else mask.sum(dim=1).tolist()):
            q, k, v = qkv[b, :length].view(length, 3, H, -1).permute(1, 2, 0, 3).contiguous()  # [H, length, D / H] each
            for part, into in zip(q.split(QUERIES_AT_ONCE, dim=1), y[b, :length].split(QUERIES_AT_ONCE), strict=True):
                scores = torch.bmm(part * q.shape[-1] ** -0.5, k.transpose(1, 2))
                into.copy_(torch.bmm(scores.softmax(dim=-1), v).transpose(0, 1))
        return y.flatten(2)


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


class FeedForward(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.activation: nn.Module = nn.GELU()
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))  # type: ignore[no-any-return]


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
