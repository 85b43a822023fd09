"""What Qwen's speech models are made of, read from `config.json` as Qwen and as transformers write it.

Sources: the Qwen3-ASR technical report (2026), the Qwen3-Omni technical report (2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from fun_asr.errors import CheckpointError
from fun_asr.layers.causal_lm import CausalLMConfig
from fun_asr.models.causal_lm import MAX_DIM, MAX_FFN, MAX_HEADS, MAX_LAYERS, MAX_VOCABULARY, read_causal_lm
from fun_asr.models.published import Values

__all__ = ["ASR_TYPE", "OMNI_TYPES", "AudioConfig", "Kind", "Qwen3Config", "from_published", "positions"]

ASR_TYPE = "qwen3_asr"
OMNI_TYPES = ("qwen3_omni_moe", "qwen3_omni_moe_thinker")
SUBSAMPLING = 8  # frames of 10 ms that become one position
TRANSFORMERS_LABELS = 2  # classes, where transformers writes none

Kind = Literal["asr", "aligner", "omni"]

# The language model of Qwen3-ASR-1.7B and the thinker of Qwen3-Omni as transformers makes them: what it leaves out.
_ASR_TEXT = CausalLMConfig(dim=2048, ffn_dim=6144, tied=True)
_OMNI_TEXT = CausalLMConfig(
    vocab_size=3584,
    dim=2048,
    num_heads=28,
    num_key_heads=4,
    head_dim=0,
    ffn_dim=18_944,
    num_experts=128,
    tied=False,
)


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Sizes of the speech encoder; the defaults are those of Qwen3-ASR-1.7B."""

    n_mels: int = 128
    dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    ffn_dim: int = 4096
    conv_channels: int = 480
    chunk: int = 100
    """Frames of 10 ms that the convolutions see at once."""
    window: int = 800
    """Frames that attention sees at once: whole chunks."""
    out_dim: int = 2048
    """The language model's width."""

    @property
    def mel_bands(self) -> int:
        """Bands that the convolutions leave of the mel bins."""
        return positions(self.n_mels)

    @property
    def chunk_positions(self) -> int:
        """Positions of a whole chunk."""
        return positions(self.chunk)


@dataclass(frozen=True, kw_only=True)
class Qwen3Config:
    """A model: encoder, language model, and for what it is used."""

    kind: Kind
    audio: AudioConfig
    text: CausalLMConfig
    labels: int = 0
    """Of the aligner: classes of 80 ms; 0 for a model that writes text."""
    label_bias: bool = False
    timestamp: int | None = None
    """The aligner's token at which a label is read; None where the file does not say it."""
    label_seconds: float = 0.08


def positions(frames: int) -> int:
    """Positions that three convolutions of stride 2 make of frames."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


def from_published(values: Any, where: str) -> Qwen3Config:
    """The configuration in a `config.json`.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    model_type = top.text("model_type", "")
    omni = model_type in OMNI_TYPES
    if not omni and model_type != ASR_TYPE:
        raise top.wrong("model_type", f"{ASR_TYPE} or {' or '.join(OMNI_TYPES)}")
    thinker = top.inner("thinker_config") if "thinker_config" in top else top
    if "audio_config" not in thinker or "text_config" not in thinker:
        raise CheckpointError(f"{where}: has no audio_config or no text_config")
    text = read_causal_lm(
        thinker.inner("text_config"),
        _OMNI_TEXT if omni else _ASR_TEXT,
        tied=thinker.flag("tie_word_embeddings", not omni),
        experts=omni,
    )
    labels = thinker.integer("classify_num", 0, 0, MAX_VOCABULARY)
    if any("TokenClassification" in str(name) for name in top.items("architectures")):
        labels = labels or len(top.inner("id2label")) or TRANSFORMERS_LABELS
    if labels:
        text = replace(text, tied=True)  # it has no output projection at all
    return Qwen3Config(
        kind="omni" if omni else "aligner" if labels else "asr",
        audio=_audio(thinker.inner("audio_config"), text.dim, omni=omni),
        text=text,
        labels=labels,
        label_bias=top.flag("token_classification_bias", False),
        timestamp=top.integer("timestamp_token_id", 0, 0, text.vocab_size - 1) or None if labels else None,
        label_seconds=top.number("timestamp_segment_time", 80.0, 1.0, 10_000.0) / 1000,
    )


def _audio(values: Values, out_dim: int, *, omni: bool) -> AudioConfig:
    values.fixed("activation_function", "gelu")
    values.fixed("scale_embedding", False)
    defaults = AudioConfig(dim=1280, num_layers=32, num_heads=20, ffn_dim=5120) if omni else AudioConfig()
    dim = values.integer("d_model", defaults.dim, 4, MAX_DIM)
    num_heads = values.integer("encoder_attention_heads", defaults.num_heads, 1, MAX_HEADS)
    if dim % num_heads or dim % 2:
        raise CheckpointError(f"{values.where}: {num_heads} heads do not share the width {dim}")
    chunk = 2 * values.integer("n_window", defaults.chunk // 2, SUBSAMPLING // 2, 10_000)
    window = values.integer("n_window_infer", defaults.window, chunk, 1_000_000)
    if window % chunk:
        raise values.wrong("n_window_infer", f"a multiple of {chunk}")
    found = values.integer("output_dim", out_dim, 1, MAX_DIM)
    if found != out_dim:
        raise CheckpointError(f"{values.where}: output_dim is {found}, the language model's width {out_dim}")
    return AudioConfig(
        n_mels=values.integer("num_mel_bins", defaults.n_mels, 1, 1024),
        dim=dim,
        num_layers=values.integer("encoder_layers", defaults.num_layers, 1, MAX_LAYERS),
        num_heads=num_heads,
        ffn_dim=values.integer("encoder_ffn_dim", defaults.ffn_dim, 1, MAX_FFN),
        conv_channels=values.integer("downsample_hidden_size", defaults.conv_channels, 1, MAX_DIM),
        chunk=chunk,
        window=window,
        out_dim=out_dim,
    )
