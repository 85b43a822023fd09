"""Qwen's speech models: an encoder that sees seconds at a time, and the language model that reads what it writes.

Three strided convolutions see chunks of 1 s, each on its own, positions start anew in each chunk, and attention sees
windows of whole chunks: cost grows with the length, and nothing is padded but the last chunk. Sources: the Qwen3-Omni
(2025) and Qwen3-ASR (2026) technical reports.

Shapes: M mel bins, T frames of 10 ms, C chunks, c channels, N positions of all clips (8 frames each), D width, H heads,
d width of a head, O the language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import attend
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.layers.encoder import sinusoids
from fun_asr.layers.feed_forward import FeedForward
from fun_asr.models.qwen3.config import AudioConfig, Qwen3Config, positions

__all__ = ["AudioEncoder", "Qwen3"]

CHUNKS_AT_ONCE = 2  # on the CPU: what the first two convolutions write of a chunk is 16 MB, and more are no faster


class WindowAttention(nn.Module):
    """Multi-head attention within windows of packed positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_ND: Tensor, windows: Sequence[Tensor]) -> Tensor:
        """Arguments: positions `[N, D]`; windows, each tensor `[windows, positions]` of as long ones."""
        qkv = self.qkv(x_ND).unflatten(-1, (3, self.num_heads, -1))
        if len(windows) == 1:
            return self.out(_within(qkv, windows[0]).flatten(0, 1))  # type: ignore[no-any-return]
        y_ND = x_ND.new_empty(x_ND.shape, dtype=qkv.dtype)
        for window in windows:
            y_ND[window] = _within(qkv, window)
        return self.out(y_ND)  # type: ignore[no-any-return]


def _within(qkv: Tensor, window: Tensor) -> Tensor:
    """`[N, 3, H, d]` to `[windows, positions, D]`."""
    q, k, v = qkv[window].permute(2, 0, 3, 1, 4)
    return attend(q, k, v).transpose(1, 2).flatten(2)


class AudioBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = WindowAttention(config.dim, config.num_heads)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.ffn = FeedForward(config.dim, config.ffn_dim)

    def forward(self, x_ND: Tensor, windows: Sequence[Tensor]) -> Tensor:
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), windows)
        return x_ND + self.ffn(self.ffn_norm(x_ND))  # type: ignore[no-any-return]


class AudioEncoder(nn.Module):
    """Log-mel spectrograms to vectors that a language model reads."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, config.conv_channels, 3, stride=2, padding=1)
            for channels in (1, config.conv_channels, config.conv_channels)
        )
        self.conv_out = nn.Linear(config.conv_channels * config.mel_bands, config.dim, bias=False)
        self.layers = nn.ModuleList(AudioBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.project_in = nn.Linear(config.dim, config.dim)
        self.project_out = nn.Linear(config.dim, config.out_dim)
        self._positions = sinusoids(config.chunk_positions, config.dim)

    def count(self, frames: int) -> int:
        """Vectors that are made of so many frames."""
        whole, rest = divmod(frames, self.config.chunk)
        return whole * self.config.chunk_positions + positions(rest)

    def forward(self, clips: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """Encode clips, each on its own.

        Arguments:
            clips: spectrograms `[M, T]`, of any lengths.

        Returns:
            vectors `[N, O]` of all clips, one clip after the other, and how many each has.
        """
        lengths = [self.count(clip.shape[1]) for clip in clips]
        x_ND = self._chunks(clips)
        windows = self._windows(lengths, x_ND.device)
        for layer in self.layers:
            x_ND = layer(x_ND, windows)
        return self.project_out(F.gelu(self.project_in(self.norm(x_ND)))), lengths

    def _chunks(self, clips: Sequence[Tensor]) -> Tensor:
        """Positions `[N, D]` of what the convolutions see, each chunk on its own."""
        size, bias = self.config.chunk, self.convs[0].bias
        assert isinstance(bias, Tensor)
        dtype = bias.dtype
        chunks, kept = [], []
        for clip in clips:
            frames = clip.shape[1]
            # The last chunk is read with zeros up to a whole one, as in training.
            padded = F.pad(clip, (0, -frames % size)).to(dtype)
            chunks.append(padded.unflatten(1, (-1, size)).transpose(0, 1))
            kept += [positions(min(size, frames - start)) for start in range(0, frames, size)]
        batch = torch.cat(chunks)[:, None]  # [C, 1, M, chunk]
        at_once = CHUNKS_AT_ONCE if batch.device.type == "cpu" else 256 * CHUNKS_AT_ONCE
        rows = []
        for part in batch.split(at_once):
            if part.device.type == "cpu":
                part = part.contiguous(memory_format=torch.channels_last)
            for conv in self.convs:
                part = F.gelu(conv(part))
            rows.append(self.conv_out(part.permute(0, 3, 1, 2).flatten(2)))  # [C, positions, c * bands]
        x = torch.cat(rows)
        x = x + self._positions.to(x.device, x.dtype)
        if all(count == x.shape[1] for count in kept):
            return x.flatten(0, 1)
        places = [chunk * x.shape[1] + place for chunk, count in enumerate(kept) for place in range(count)]
        return x.flatten(0, 1).index_select(0, torch.tensor(places, device=x.device))

    def _windows(self, lengths: Sequence[int], device: torch.device) -> list[Tensor]:
        """The packed positions of each window of attention, those of one length together."""
        size = self.config.window // self.config.chunk * self.config.chunk_positions
        starts: dict[int, list[int]] = {}
        first = 0
        for length in lengths:
            for start in range(0, length, size):
                starts.setdefault(min(size, length - start), []).append(first + start)
            first += length
        return [
            torch.tensor(places, device=device)[:, None] + torch.arange(size, device=device)
            for size, places in starts.items()
        ]


class Qwen3(nn.Module):
    """A speech encoder, and a language model that writes text or, as an aligner, labels what it reads."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config.audio)
        self.language_model = CausalLM(config.text)
        self.score = nn.Linear(config.text.dim, config.labels, bias=config.label_bias) if config.labels else None
