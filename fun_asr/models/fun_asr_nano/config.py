"""What a Fun-ASR-Nano model is made of, read from FunASR's `config.yaml` or transformers' `config.json`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fun_asr.errors import CheckpointError
from fun_asr.layers.causal_lm import CausalLMConfig
from fun_asr.layers.sanm import SANMConfig
from fun_asr.models.causal_lm import PUBLISHED_DEFAULTS, read_causal_lm
from fun_asr.models.published import Values
from fun_asr.models.sanm.checkpoint import MAX_DIM, MAX_FFN, MAX_LAYERS, encoder_config

__all__ = ["MODEL", "MODEL_TYPE", "AdaptorConfig", "CTCConfig", "NanoConfig", "from_transformers", "from_upstream"]

MODEL = "FunASRNano"
"""What `config.yaml` calls it."""
MODEL_TYPE = "fun_asr_nano"
"""What `config.json` calls it."""
MAX_VOCABULARY = 10**6


@dataclass(frozen=True, kw_only=True)
class AdaptorConfig:
    """Sizes of what makes an encoder's frames into vectors of another width."""

    in_dim: int = 512
    hidden_dim: int = 2048
    dim: int = 1024
    num_layers: int = 2
    num_heads: int = 8
    ffn_dim: int = 256
    eps: float = 1e-12


@dataclass(frozen=True, kw_only=True)
class CTCConfig:
    """Sizes of the CTC branch."""

    adaptor: AdaptorConfig = field(default_factory=lambda: AdaptorConfig(dim=512, num_layers=5, ffn_dim=128))
    vocab_size: int = 60515
    """With the blank."""
    blank: int = 60514


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Sizes of a model."""

    encoder: SANMConfig = field(default_factory=SANMConfig)
    adaptor: AdaptorConfig = field(default_factory=AdaptorConfig)
    language_model: CausalLMConfig = field(default_factory=CausalLMConfig)
    ctc: CTCConfig | None = None
    """None where the file has no CTC branch."""
    low_frame_rate: bool = True
    """Whether the language model reads the first eighth of the vectors alone, as in training, or all of them."""
    system_prompt: bool = True
    """Whether the prompt begins with what the assistant is."""
    thinks: bool = True
    """Whether the model may think before it writes; without, the prompt says that it has thought of nothing."""

    def vectors(self, frames: int) -> int:
        """How many vectors the language model reads of an utterance with so many encoder frames, at least one."""
        if self.low_frame_rate:
            for _ in range(3):
                frames = (frames - 1) // 2 + 1
        return frames


def _adaptor(values: Values, in_dim: int, dim: int, layers: int) -> AdaptorConfig:
    values.fixed("downsample_rate", 1)
    num_heads = values.integer("attention_heads", 8, 1, 256)
    if dim % num_heads or dim < 4:
        raise CheckpointError(f"{values.where}: {num_heads} heads of the adaptor do not share the width {dim}")
    return AdaptorConfig(
        in_dim=in_dim,
        hidden_dim=values.integer("ffn_dim", 2048, 1, MAX_FFN),
        dim=dim,
        num_layers=values.integer("n_layer", layers, 0, MAX_LAYERS),
        num_heads=num_heads,
        ffn_dim=dim // 4,
    )


def from_upstream(config: Values, language_model: Values, *, has_ctc: bool) -> NanoConfig:
    """The configuration in a `config.yaml`.

    Arguments:
        config: what the file holds.
        language_model: the `config.json` of the language model beside it.
        has_ctc: whether the weights have a CTC branch: many files that are configured with one lack it.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    for key, expected in (
        ("model", MODEL), ("audio_encoder", "SenseVoiceEncoderSmall"), ("audio_adaptor", "Transformer"),
    ):  # fmt: skip
        config.fixed(key, expected)
    config.inner("llm_conf").fixed("use_lora", False)
    encoder = encoder_config(config, "audio_encoder_conf")
    text = read_causal_lm(language_model, PUBLISHED_DEFAULTS)
    adaptor, data = config.inner("audio_adaptor_conf"), config.inner("dataset_conf")
    return NanoConfig(
        encoder=encoder,
        adaptor=_adaptor(adaptor, encoder.dim, text.dim, 2),
        language_model=text,
        ctc=_ctc(config, encoder.dim) if has_ctc else None,
        low_frame_rate=adaptor.flag("use_low_frame_rate", False),
        system_prompt=data.flag("sys_prompt", True),
        thinks=data.flag("do_think", True),
    )


def _ctc(config: Values, in_dim: int) -> CTCConfig:
    config.fixed("ctc_decoder", "Transformer")
    sizes = config.inner("ctc_decoder_conf")
    dim = sizes.integer("llm_dim", 512, 1, MAX_DIM)
    if dim != in_dim:
        raise sizes.wrong("llm_dim", f"the encoder's width {in_dim}, which the CTC head reads")
    vocab_size = config.integer("ctc_vocab_size", 60515, 2, MAX_VOCABULARY)
    blank = config.inner("ctc_conf").integer("blank_id", vocab_size - 1, 0, vocab_size - 1)
    return CTCConfig(adaptor=_adaptor(sizes, in_dim, dim, 2), vocab_size=vocab_size, blank=blank)


def from_transformers(values: Any, where: str) -> NanoConfig:
    """The configuration in a `config.json`.

    `use_low_frame_rate` in it, which transformers neither writes nor reads, says how many vectors the language model
    reads; upstream's models, which are the same weights, read the first eighth, and so do these where it is not said.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    audio, adaptor = top.inner("audio_config"), top.inner("adaptor_config")
    for section in (audio, adaptor):
        section.fixed("hidden_act", "relu")
    adaptor.fixed("projector_hidden_act", "relu")
    num_heads, dim = audio.integer("num_attention_heads", 4, 1, 256), audio.integer("hidden_size", 512, 1, MAX_DIM)
    if dim % num_heads:
        raise CheckpointError(f"{where}: {num_heads} heads do not share the width {dim}")
    layers = audio.integer("num_hidden_layers", 70, 2, MAX_LAYERS)
    more = audio.integer("num_timestamp_prediction_layers", 20, 1, layers - 1)
    kernel = audio.integer("fsmn_kernel_size", 11, 1, 255)
    if kernel % 2 == 0:
        raise audio.wrong("fsmn_kernel_size", "odd")
    encoder = SANMConfig(
        n_mels=audio.integer("num_mel_bins", 80, 1, 1024),
        stacked=audio.integer("num_stacked_frames", 7, 1, 64),
        dim=dim,
        ffn_dim=audio.integer("intermediate_size", 2048, 1, MAX_FFN),
        num_heads=num_heads,
        num_layers=layers - more,
        num_more_layers=more,
        kernel=kernel,
        eps=audio.number("layer_norm_eps", 1e-5, 0.0, 1.0),
    )
    defaults = replace(PUBLISHED_DEFAULTS, dim=1024, ffn_dim=3072, num_layers=28, num_heads=16, num_key_heads=8)
    text = read_causal_lm(top.inner("text_config"), defaults, tied=top.flag("tie_word_embeddings", True))
    heads = adaptor.integer("num_attention_heads", 8, 1, 256)
    width = adaptor.integer("hidden_size", 1024, 1, MAX_DIM)
    if width != text.dim or width % heads:
        raise adaptor.wrong("hidden_size", f"the language model's width {text.dim}, shared by {heads} heads")
    return NanoConfig(
        encoder=encoder,
        adaptor=AdaptorConfig(
            in_dim=dim,
            hidden_dim=adaptor.integer("projector_hidden_size", 2048, 1, MAX_FFN),
            dim=width,
            num_layers=adaptor.integer("num_hidden_layers", 2, 0, MAX_LAYERS),
            num_heads=heads,
            ffn_dim=adaptor.integer("intermediate_size", 256, 1, MAX_FFN),
            eps=adaptor.number("layer_norm_eps", 1e-5, 0.0, 1.0),
        ),
        language_model=text,
        low_frame_rate=top.flag("use_low_frame_rate", True),
    )
