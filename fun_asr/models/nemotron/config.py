"""What Nemotron 3.5 Transcribe is made of, read from `config.json` as NVIDIA and transformers write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fun_asr.errors import CheckpointError
from fun_asr.layers.hybrid_lm import HybridLMConfig
from fun_asr.models.causal_lm import MAX_DIM, MAX_FFN, MAX_HEADS, MAX_LAYERS, MAX_VOCABULARY
from fun_asr.models.hybrid_lm import read_hybrid_lm
from fun_asr.models.published import Values

__all__ = ["MODEL_TYPE", "AlignerConfig", "FrameConfig", "NemotronConfig", "SpeakerConfig", "from_published"]

MODEL_TYPE = "nemo_speechlm"


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """Sizes of a transformer over frames; the defaults are those of the speech encoder."""

    dim: int = 1280
    num_layers: int = 32
    num_heads: int = 10
    ffn_dim: int = 5120
    rotary_dim: int = 64
    """Width of the part of each head that is rotated."""
    rope_theta: float = 10_000.0
    normalised_heads: bool = True
    """Whether each head's queries and keys are normalised."""


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig:
    """Sizes of what hears speakers."""

    frames: FrameConfig = FrameConfig(
        dim=512, num_layers=31, num_heads=8, ffn_dim=2048, rotary_dim=64, normalised_heads=False
    )
    head_dim: int = 192
    num_speakers: int = 8


@dataclass(frozen=True, kw_only=True)
class AlignerConfig:
    """Sizes of the CTC head."""

    frames: FrameConfig = FrameConfig(num_layers=2, num_heads=16, ffn_dim=640, rotary_dim=40)
    num_classes: int = 23_863
    """With the blank."""
    blank: int = 23_862
    upsampling: int = 2
    residual_scale: float = 0.1


@dataclass(frozen=True, kw_only=True)
class NemotronConfig:
    """A model."""

    n_mels: int = 128
    stacked: int = 8
    """Frames of 10 ms that become one position."""
    speech: FrameConfig = FrameConfig()
    speakers: SpeakerConfig = SpeakerConfig()
    aligner: AlignerConfig = AlignerConfig()
    text: HybridLMConfig = field(default_factory=HybridLMConfig)
    speaker_threshold: float = 0.5
    """Probability above which a speaker is heard."""
    longest: int = 500
    """Positions of the longest clip that is read at once."""


def from_published(values: Any, where: str) -> NemotronConfig:
    """The configuration in a `config.json`.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    top.fixed("model_type", MODEL_TYPE)
    defaults = NemotronConfig()
    audio = top.inner("audio_config")
    asr, diarization = audio.inner("asr_config"), audio.inner("diarization_config")
    heard = diarization.inner("audio_config")
    n_mels = asr.integer("num_mel_bins", defaults.n_mels, 1, 1024)
    stacked = asr.integer("subsampling_factor", defaults.stacked, 1, 64)
    for part in (heard, diarization.inner("head_config")):
        part.fixed("subsampling_factor", stacked)
    heard.fixed("num_mel_bins", n_mels)
    speech = _frames(asr, defaults.speech, 0.5)
    speakers = SpeakerConfig(
        frames=_frames(heard, defaults.speakers.frames, 1.0),
        head_dim=diarization.inner("head_config").integer("hidden_size", defaults.speakers.head_dim, 1, MAX_DIM),
        num_speakers=diarization.inner("head_config").integer("num_speakers", defaults.speakers.num_speakers, 1, 64),
    )
    return NemotronConfig(
        n_mels=n_mels,
        stacked=stacked,
        speech=speech,
        speakers=speakers,
        aligner=_aligner(top.inner("word_timestamp_config"), defaults.aligner, speech.dim),
        text=read_hybrid_lm(top.inner("text_config"), defaults.text),
        speaker_threshold=audio.number("speaker_activity_threshold", defaults.speaker_threshold, 0.0, 1.0),
        longest=diarization.integer("chunk_length", defaults.longest, 1, 100_000),
    )


def _aligner(values: Values, defaults: AlignerConfig, dim: int) -> AlignerConfig:
    frames = _frames(values, defaults.frames, 0.5)
    if frames.dim != dim:
        raise CheckpointError(f"{values.where}: the word timestamp head's width is {frames.dim}, the encoder's {dim}")
    num_classes = values.integer("vocab_size", defaults.num_classes, 2, MAX_VOCABULARY)
    return AlignerConfig(
        frames=frames,
        num_classes=num_classes,
        blank=values.integer("blank_token_id", defaults.blank, 0, num_classes - 1),
        upsampling=values.integer("upsampling_factor", defaults.upsampling, 1, 64),
        residual_scale=values.number("residual_scale", defaults.residual_scale, 0.0, 1000.0),
    )


def _frames(values: Values, defaults: FrameConfig, rotated: float) -> FrameConfig:
    """Arguments: rotated, the part of each head where the file does not say it."""
    values.fixed("hidden_act", "gelu")
    dim = values.integer("hidden_size", defaults.dim, 2, MAX_DIM)
    num_heads = values.integer("num_attention_heads", defaults.num_heads, 1, MAX_HEADS)
    values.fixed("num_key_value_heads", num_heads)
    if dim % num_heads or dim % 2:
        raise CheckpointError(f"{values.where}: {num_heads} heads do not share the width {dim}")
    rope = values.inner("rope_parameters")
    rope.fixed("rope_type", "default")
    rotary_dim = int(dim // num_heads * rope.number("partial_rotary_factor", rotated, 0.0, 1.0))
    if rotary_dim % 2:
        raise rope.wrong("partial_rotary_factor", f"one of which {dim // num_heads} makes an even number")
    return FrameConfig(
        dim=dim,
        num_layers=values.integer("num_hidden_layers", defaults.num_layers, 1, MAX_LAYERS),
        num_heads=num_heads,
        ffn_dim=values.integer("intermediate_size", defaults.ffn_dim, 1, MAX_FFN),
        rotary_dim=rotary_dim,
        rope_theta=rope.number("rope_theta", defaults.rope_theta, 1.0, 1e12),
        normalised_heads=defaults.normalised_heads,
    )
