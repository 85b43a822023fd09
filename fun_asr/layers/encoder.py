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
from fun_asr.layers.depthwise import depthwise_conv
from fun_asr.layers.feed_forward import FeedForward
from fun_asr.layers.silence import Silence

ENCODER_FRAMES_PER_SECOND = 50

# Log-mel of digital silence: the floor is 80 dB under the loudest bin, and never under that of silence alone.
SILENCE_BELOW_LOUDEST = 2.0
LOWEST_SILENCE = -1.5
STEM_REACH = 6  # log-mel frames after the sound that the stem's first frame of mere silence needs


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
    silence_frames: int = 0
    """Frames that stand for the silence between an utterance and the longest input (`Silence`); 0 leaves it out."""


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
        y = depthwise_conv(y, self.depthwise.weight, self.depthwise.bias)
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

    def forward(self, x: Tensor, mask: Tensor | None, bias: Tensor | None = None) -> Tensor:
        """One block over `[B, L, D]`.

        Arguments:
            x: `[B, L, D]`.
            mask: True for the valid frames, bool `[B, L]`; None when all are.
            bias: what attention adds to the frames' scores instead of the mask, `[B, L]`.
        """
        x = x + self.attention(self.attention_norm(x), mask if bias is None else bias)
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
        self.silence = Silence(config.silence_frames, config.max_frames) if config.silence_frames else None

    def forward(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Arguments:
            features: log-mel `[B, M, T]`, zero beyond each utterance's frames.
            lengths_B: log-mel frames of each utterance, int64 `[B]`.

        Returns:
            representations `[B, L, D]` with L = ceil(T / 2) + silence_frames, zero beyond each utterance's frames, the
            last of which are those of silence, and the lengths ceil(lengths_B / 2) + silence_frames.

        Raises:
            ValueError: for an utterance longer than `max_frames` encoder frames.
        """
        frames = (features.shape[-1] + 1) // 2
        if frames > self.config.max_frames:
            raise ValueError(f"{frames} encoder frames; at most {self.config.max_frames} fit the encoder")
        bias = None
        if self.silence is None:
            mask_T = length_mask(lengths_B, features.shape[-1])
            x = self._stem(features, mask_T)
            lengths_B = (lengths_B + 1) // 2
            x = x + self.positions[: x.shape[1]].to(x.dtype)
        else:
            x, lengths_B = self._with_silence(features, lengths_B, self.silence)
            bias = self.silence.bias(lengths_B, x.shape[1])
        mask = length_mask(lengths_B, x.shape[1])
        for block in self.blocks:
            x = block(x, mask, bias)
        x = self.norm(x)
        return (x if mask is None else x * mask[..., None]), lengths_B

    def _stem(self, features: Tensor, mask_T: Tensor | None) -> Tensor:
        """Log-mel `[B, M, T]` to `[B, ceil(T / 2), D]`, silence beyond the mask being nothing."""
        x = F.gelu(self.conv1(features))
        if mask_T is not None:
            x = x * mask_T[:, None]
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def _with_silence(self, features: Tensor, lengths_B: Tensor, silence: Silence) -> tuple[Tensor, Tensor]:
        """The blocks' input `[B, L, D]`, the frames of silence behind each utterance's, and the lengths with them."""
        sound_T = torch.arange(features.shape[-1] + STEM_REACH, device=features.device) < lengths_B[:, None]
        features = F.pad(features, (0, STEM_REACH))
        loudest_B = features.masked_fill(~sound_T[:, None], -torch.inf).amax(dim=(1, 2))
        floor_B = (loudest_B - SILENCE_BELOW_LOUDEST).clamp(min=LOWEST_SILENCE)
        # The stem hears real silence after the sound, as it does in a padded window.
        x = self._stem(torch.where(sound_T[:, None], features, floor_B[:, None, None]), None)
        sound_B = (lengths_B + 1) // 2
        lengths_B = sound_B + silence.frames
        rows = torch.arange(len(x), device=x.device)
        silent_B1D = x[rows, sound_B + 1][:, None]
        frames = int(sound_B.max())
        positions = self.positions.to(x.dtype)
        x = F.pad(x[:, :frames] + positions[:frames], (0, 0, 0, silence.frames))
        places_BR = sound_B[:, None] + torch.arange(silence.frames, device=x.device)
        silent_BRD = silent_B1D + positions[silence.places(lengths_B)]
        return torch.index_put(x, (rows[:, None], places_BR), silent_BRD), lengths_B
