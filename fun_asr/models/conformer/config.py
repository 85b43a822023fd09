"""What a FastConformer is made of, read from transformers' `config.json` or NeMo's `model_config.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fun_asr.errors import CheckpointError
from fun_asr.models.published import Values

__all__ = ["MODEL_TYPES", "ConformerConfig", "EncoderConfig", "from_nemo", "from_transformers"]

Kind = Literal["ctc", "rnnt", "tdt"]
MODEL_TYPES: dict[str, Kind] = {"parakeet_ctc": "ctc", "parakeet_rnnt": "rnnt", "parakeet_tdt": "tdt"}
"""transformers' names."""

# Several times the largest that were published: beyond them a configuration is damaged, or made to exhaust memory.
MAX_DIM, MAX_FFN, MAX_LAYERS, MAX_VOCABULARY, MAX_CHANNELS, MAX_DURATION = 8192, 65536, 256, 10**6, 4096, 64


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of the encoder."""

    n_mels: int = 80
    dim: int = 1024
    num_layers: int = 24
    num_heads: int = 8
    ffn_dim: int = 4096
    bias: bool = True
    """Of the linear layers."""
    conv_bias: bool = True
    conv_kernel: int = 9
    channels: int = 256
    """Of the subsampling."""
    halvings: int = 3
    """Of time, by the subsampling: 3 give frames of 80 ms."""
    scale_input: bool = True
    """Whether the subsampling's output is multiplied by the square root of the width."""
    band: tuple[int, int] | None = None
    """How many frames before and after it a frame attends to; None for all."""


@dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """A FastConformer and what reads its output."""

    kind: Kind
    encoder: EncoderConfig
    vocab_size: int
    """With the blank."""
    blank: int
    ctc: bool
    """Whether there is a CTC head, beside a transducer or alone."""
    prediction_dim: int = 640
    prediction_layers: int = 2
    durations: tuple[int, ...] = ()
    """In frames, of a token-and-duration transducer."""
    max_symbols: int = 10
    """Most tokens of a transducer in a frame."""
    preemphasis: float = 0.97

    @property
    def frame(self) -> int:
        """Samples of an encoder frame."""
        return 160 << self.encoder.halvings


def from_transformers(values: Any, where: str) -> ConformerConfig:
    """The configuration in a `config.json` of one of `MODEL_TYPES`.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    kind = MODEL_TYPES[top.text("model_type", "")]
    sizes = top.inner("encoder_config")
    sizes.fixed("hidden_act", "silu")
    sizes.fixed("subsampling_conv_kernel_size", 3)
    sizes.fixed("subsampling_conv_stride", 2)
    encoder = _encoder(
        sizes,
        n_mels=sizes.integer("num_mel_bins", 80, 8, 1024),
        dim=sizes.integer("hidden_size", 1024, 1, MAX_DIM),
        num_layers=sizes.integer("num_hidden_layers", 24, 1, MAX_LAYERS),
        num_heads=sizes.integer("num_attention_heads", 8, 1, 256),
        ffn_dim=sizes.integer("intermediate_size", 4096, 1, MAX_FFN),
        bias=sizes.flag("attention_bias", True),
        conv_bias=sizes.flag("convolution_bias", True),
        conv_kernel=sizes.integer("conv_kernel_size", 9, 1, 255),
        channels=sizes.integer("subsampling_conv_channels", 256, 1, MAX_CHANNELS),
        factor=sizes.integer("subsampling_factor", 8, 2, 64),
        scale_input=sizes.flag("scale_input", True),
        band=None,
    )
    if kind == "ctc":
        vocab_size = top.integer("vocab_size", 1025, 2, MAX_VOCABULARY)
        blank = top.integer("pad_token_id", 1024, 0, vocab_size - 1)
        return ConformerConfig(kind=kind, encoder=encoder, vocab_size=vocab_size, blank=blank, ctc=True)
    top.fixed("hidden_act", "relu")
    vocab_size = top.integer("vocab_size", 8193, 2, MAX_VOCABULARY)
    return ConformerConfig(
        kind=kind,
        encoder=encoder,
        vocab_size=vocab_size,
        blank=top.integer("blank_token_id", 8192, 0, vocab_size - 1),
        ctc=False,
        prediction_dim=top.integer("decoder_hidden_size", 640, 1, MAX_DIM),
        prediction_layers=top.integer("num_decoder_layers", 2, 1, 32),
        durations=_durations(top.integers("durations", (0, 1, 2, 3, 4), 0, MAX_DURATION), where)
        if kind == "tdt"
        else (),
        max_symbols=top.integer("max_symbols_per_step", 10, 1, 1000),
    )


def from_nemo(values: Any, where: str) -> ConformerConfig:
    """The configuration in the `model_config.yaml` of a NeMo archive.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    decoder, joint = top.inner("decoder"), top.inner("joint")
    target = decoder.text("_target_", "").rpartition(".")[2]
    if target not in ("ConvASRDecoder", "RNNTDecoder"):
        named = top.text("target", "").rpartition(".")[2] or target or "without a decoder"
        raise CheckpointError(f"{where}: the model {named} is not supported; CTC, RNN-T and TDT models are")
    sizes = top.inner("encoder")
    if sizes.text("_target_", "ConformerEncoder").rpartition(".")[2] != "ConformerEncoder":
        raise CheckpointError(f"{where}: encoder._target_ is no ConformerEncoder")
    for key, expected in {
        "subsampling": "dw_striding",
        "conv_norm_type": "batch_norm",
        "causal_downsampling": False,
        "reduction": None,
        "untie_biases": True,
        "conv_context_size": None,
        "att_context_style": "regular",
    }.items():
        if expected is not None or key == "reduction":
            sizes.fixed(key, expected)
    attention = sizes.text("self_attention_model", "rel_pos")
    if attention not in ("rel_pos", "rel_pos_local_attn"):
        raise sizes.wrong("self_attention_model", "'rel_pos' or 'rel_pos_local_attn'")
    context = sizes.items("att_context_size") or [-1, -1]
    if context and isinstance(context[0], list):
        context = context[0]
    band = None
    if attention == "rel_pos_local_attn" and min(context, default=-1) >= 0:
        sizes.fixed("global_tokens", 0)
        if len(context) != 2 or not all(isinstance(item, int) and item < 10**6 for item in context):
            raise sizes.wrong("att_context_size", "two whole numbers")
        band = (context[0], context[1])
    elif any(item != -1 for item in context):
        raise sizes.wrong("att_context_size", "[-1, -1] where attention is not local")
    front = top.inner("preprocessor")
    for key, expected in (("normalize", "per_feature"), ("window", "hann"), ("n_fft", 512), ("sample_rate", 16000)):
        front.fixed(key, expected)
    front.fixed("window_size", 0.025)
    front.fixed("window_stride", 0.01)
    front.fixed("log", True)
    front.fixed("frame_splicing", 1)
    dim = sizes.integer("d_model", None, 1, MAX_DIM)
    bias = sizes.flag("use_bias", True)
    encoder = _encoder(
        sizes,
        n_mels=sizes.integer("feat_in", None, 8, 1024),
        dim=dim,
        num_layers=sizes.integer("n_layers", None, 1, MAX_LAYERS),
        num_heads=sizes.integer("n_heads", None, 1, 256),
        ffn_dim=dim * sizes.integer("ff_expansion_factor", 4, 1, 16),
        bias=bias,
        conv_bias=bias,
        conv_kernel=sizes.integer("conv_kernel_size", 31, 1, 255),
        channels=dim
        if sizes.integer("subsampling_conv_channels", -1, -1, MAX_CHANNELS) == -1
        else sizes.integer("subsampling_conv_channels", -1, 1, MAX_CHANNELS),
        factor=sizes.integer("subsampling_factor", 4, 2, 64),
        scale_input=sizes.flag("xscaling", True),
        band=band,
    )
    preemphasis = front.number("preemph", 0.97, 0.0, 1.0)
    if target == "ConvASRDecoder":
        tokens = _tokens(decoder, top, where)
        return ConformerConfig(
            kind="ctc", encoder=encoder, vocab_size=tokens + 1, blank=tokens, ctc=True, preemphasis=preemphasis
        )  # fmt: skip
    tokens = _tokens(joint, top, where)
    prediction, network = decoder.inner("prednet"), joint.inner("jointnet")
    network.fixed("activation", "relu")
    dim = prediction.integer("pred_hidden", 640, 1, MAX_DIM)
    network.fixed("joint_hidden", dim)
    extra = joint.integer("num_extra_outputs", 0, 0, MAX_DURATION)
    decoding = top.inner("decoding")
    durations: tuple[int, ...] = ()
    if extra:
        known = decoding if "durations" in decoding else top.inner("loss").inner("tdt_kwargs")
        durations = _durations(known.integers("durations", tuple(range(extra)), 0, MAX_DURATION), where)
        if len(durations) != extra:
            raise CheckpointError(f"{where}: {len(durations)} durations, but joint.num_extra_outputs is {extra}")
    greedy = decoding.inner("greedy")
    return ConformerConfig(
        kind="tdt" if extra else "rnnt",
        encoder=encoder,
        vocab_size=tokens + 1,
        blank=tokens,
        ctc="aux_ctc" in top,
        prediction_dim=dim,
        prediction_layers=prediction.integer("pred_rnn_layers", 1, 1, 32),
        durations=durations,
        max_symbols=greedy.integer("max_symbols", 10, 1, 1000),
        preemphasis=preemphasis,
    )


def _encoder(sizes: Values, *, factor: int, **values: Any) -> EncoderConfig:
    config = EncoderConfig(halvings=factor.bit_length() - 1, **values)
    if 1 << config.halvings != factor:
        raise sizes.wrong("subsampling_factor", "a power of 2")
    if config.dim % (2 * config.num_heads):
        raise CheckpointError(f"{sizes.where}: {config.num_heads} heads do not share the width {config.dim}")
    if config.n_mels % factor or config.conv_kernel % 2 == 0:
        raise CheckpointError(
            f"{sizes.where}: the mel bins must be a multiple of {factor} and the kernel odd, "
            f"not {config.n_mels} and {config.conv_kernel}"
        )
    return config


def _durations(durations: tuple[int, ...], where: str) -> tuple[int, ...]:
    if not durations or max(durations) == 0:
        raise CheckpointError(f"{where}: durations must have one that is not 0")
    return durations


def _tokens(part: Values, top: Values, where: str) -> int:
    """Tokens without the blank."""
    known = part.integer("num_classes", -1, -1, MAX_VOCABULARY)
    found = known if known > 0 else len(part.items("vocabulary") or top.items("labels"))
    if found < 1:
        raise CheckpointError(f"{where}: neither a number of classes nor a vocabulary")
    return found
