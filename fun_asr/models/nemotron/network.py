"""Nemotron 3.5 Transcribe: two encoders that hear speech and speakers, a hybrid language model, and a head of CTC.

Both encoders are transformers over stacked frames. What the second one hears of each speaker is added, as a sinusoid of
the speaker's number, to what the first one says of the speech. A clip is encoded on its own and nothing is padded.
Sources: the model's card (NVIDIA 2026), Sortformer (Park et al. 2024).

Shapes: M mel bins, T frames of 10 ms, L positions of a clip (8 frames each), D width, H heads, d width of a head, S
speakers, O the language model's width, C classes of the CTC head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import attend
from fun_asr.layers.feed_forward import FeedForward
from fun_asr.layers.hybrid_lm import HybridLM
from fun_asr.models.nemotron.config import AlignerConfig, FrameConfig, NemotronConfig, SpeakerConfig

__all__ = ["Nemotron", "encoder_input"]


def encoder_input(log_mel_TM: Tensor) -> Tensor:
    """Log-mel frames with each bin's mean and deviation over the clip taken out."""
    centred = log_mel_TM - log_mel_TM.mean(dim=0)
    deviation = (centred.square().sum(dim=0) / max(1, len(centred) - 1)).sqrt() + 1e-5
    return centred / deviation


class Turns:
    """Rotary positions (Su et al. 2021) of a clip, in the first part of each head."""

    def __init__(self, length: int, config: FrameConfig, device: torch.device, dtype: torch.dtype) -> None:
        steps = torch.arange(0, config.rotary_dim, 2, device=device, dtype=torch.float32)
        positions = torch.arange(length, device=device, dtype=torch.float32)
        angles = positions[:, None] * config.rope_theta ** -(steps / config.rotary_dim)
        self._cos = torch.cat((angles.cos(), angles.cos()), dim=-1).to(dtype)
        self._sin = torch.cat((-angles.sin(), angles.sin()), dim=-1).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate `[..., L, d]`."""
        width = self._cos.shape[-1]
        turned, rest = x[..., :width], x[..., width:]
        turned = turned * self._cos + turned.roll(width // 2, dims=-1) * self._sin
        return torch.cat((turned, rest), dim=-1)


class FrameAttention(nn.Module):
    """Multi-head attention of all positions of a clip, with or without norms of each head's queries and keys."""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.out = nn.Linear(config.dim, config.dim)
        head_dim = config.dim // config.num_heads
        self.query_norm = nn.LayerNorm(head_dim) if config.normalised_heads else nn.Identity()
        self.key_norm = nn.LayerNorm(head_dim) if config.normalised_heads else nn.Identity()

    def forward(self, x_LD: Tensor, turns: Turns) -> Tensor:
        q, k, v = self.qkv(x_LD).unflatten(-1, (3, self.num_heads, -1)).permute(1, 2, 0, 3)  # [H, L, d] each
        q, k = turns(self.query_norm(q)), turns(self.key_norm(k))
        return self.out(attend(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


class FrameBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = FrameAttention(config)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.ffn = FeedForward(config.dim, config.ffn_dim)

    def forward(self, x_LD: Tensor, turns: Turns) -> Tensor:
        x_LD = x_LD + self.attention(self.attention_norm(x_LD), turns)
        return x_LD + self.ffn(self.ffn_norm(x_LD))  # type: ignore[no-any-return]


class FrameTransformer(nn.Module):
    """Norm, blocks, norm."""

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        self.norm_in = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(FrameBlock(config) for _ in range(config.num_layers))
        self.norm_out = nn.LayerNorm(config.dim)

    @property
    def dtype(self) -> torch.dtype:
        """Of what it takes and gives."""
        return self.norm_in.weight.dtype

    def forward(self, x_LD: Tensor) -> Tensor:
        turns = Turns(len(x_LD), self.config, x_LD.device, x_LD.dtype)
        x_LD = self.norm_in(x_LD)
        for layer in self.layers:
            x_LD = layer(x_LD, turns)
        return self.norm_out(x_LD)  # type: ignore[no-any-return]


class FrameEncoder(nn.Module):
    """Stacked frames to a vector each."""

    def __init__(self, config: FrameConfig, n_mels: int, stacked: int) -> None:
        super().__init__()
        self.stacked = stacked
        self.project = nn.Linear(stacked * n_mels, config.dim, bias=False)
        self.transformer = FrameTransformer(config)

    def forward(self, frames_TM: Tensor) -> Tensor:
        """`[T, M]` to `[L, D]`; zeros fill up the last position."""
        padded = F.pad(frames_TM, (0, 0, 0, -len(frames_TM) % self.stacked)).to(self.transformer.dtype)
        return self.transformer(self.project(padded.unflatten(0, (-1, self.stacked)).flatten(1)))  # type: ignore[no-any-return]


class SpeakerEncoder(nn.Module):
    """Log-mel frames to which speakers are heard, in the order in which they begin to speak."""

    def __init__(self, config: SpeakerConfig, n_mels: int, stacked: int) -> None:
        super().__init__()
        self.encoder = FrameEncoder(config.frames, n_mels, stacked)
        self.project = nn.Linear(config.frames.dim, config.head_dim)
        self.upsample = nn.Conv1d(config.head_dim, stacked * config.head_dim, 3, padding=1)
        self.hidden = nn.Linear(config.head_dim, config.head_dim)
        self.speakers = nn.Linear(config.head_dim, config.num_speakers)

    def forward(self, frames_TM: Tensor) -> Tensor:
        """Probability of each speaker at each position, `[L, S]`: the mean over its frames."""
        x = self.project(self.encoder(frames_TM))
        x = self.upsample(x.T[None])[0].T.unflatten(1, (self.encoder.stacked, -1))  # [L, 8, head]
        probabilities = self.speakers(F.relu(self.hidden(F.relu(x)))).sigmoid()
        return probabilities.mean(dim=1)  # type: ignore[no-any-return]


class Aligner(nn.Module):
    """The CTC head: what the speech encoder says, at twice its rate, to pieces of words."""

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.frames.dim
        self.upsample = nn.Linear(dim, config.upsampling * dim)
        self.transformer = FrameTransformer(config.frames)
        self.classes = nn.Linear(dim, config.num_classes)

    def forward(self, speech_LD: Tensor) -> Tensor:
        """`[L, D]` to logits `[upsampling * L, C]`."""
        x = self.upsample(speech_LD.to(self.transformer.dtype)).reshape(-1, speech_LD.shape[1])
        return self.classes(x + self.config.residual_scale * self.transformer(x))  # type: ignore[no-any-return]


class Nemotron(nn.Module):
    """The model."""

    def __init__(self, config: NemotronConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config.speech, config.n_mels, config.stacked)
        self.speaker_encoder = SpeakerEncoder(config.speakers, config.n_mels, config.stacked)
        self.speech_norm = nn.LayerNorm(config.speech.dim)
        self.speaker_norm = nn.LayerNorm(config.speakers.num_speakers)
        self.project = nn.Linear(config.speech.dim, config.text.dim)
        self.language_model = HybridLM(config.text)
        self.aligner = Aligner(config.aligner)

    def encode(self, clips: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Encode clips, each on its own.

        Arguments:
            clips: log-mel frames `[T, M]`, at least one each and no more than `config.longest` positions.

        Returns:
            for each clip the vectors `[L, O]` that the language model reads, what the aligner reads `[L, D]`, and the
            probability of each speaker `[L, S]`.
        """
        found = []
        for clip in clips:
            speech = self.encoder(encoder_input(clip))
            speakers = self.speaker_encoder(clip)
            active = (speakers > self.config.speaker_threshold).to(speech.dtype)
            named = self.speaker_norm(active) @ self._names(speech)
            found.append((self.project(self.speech_norm(speech) + named), speech, speakers))
        return found

    def _names(self, like: Tensor) -> Tensor:
        """A sinusoid for each speaker, `[S, D]`."""
        dim, count = self.config.speech.dim, self.config.speakers.num_speakers
        steps = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * -(math.log(10_000.0) / dim))
        angles = torch.arange(count, dtype=torch.float32)[:, None] * steps
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).to(like.device, like.dtype)
