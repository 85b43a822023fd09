"""What a Granite Speech CTC model is made of, read from transformers' `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fun_asr.errors import CheckpointError
from fun_asr.models.published import Values

__all__ = ["MODEL_TYPE", "GraniteConfig", "from_transformers"]

MODEL_TYPE = "granite_speech5_ctc"
STACKED = 320  # samples of an input frame: two frames of 10 ms

# Several times the largest that were published: beyond them a configuration is damaged, or made to exhaust memory.
MAX_DIM, MAX_FFN, MAX_LAYERS, MAX_VOCABULARY, MAX_CONTEXT = 8192, 65536, 256, 10**6, 16384


@dataclass(frozen=True, kw_only=True)
class GraniteConfig:
    """Sizes of a model."""

    vocab_size: int = 16384
    """With the blank."""
    blank: int = 0
    dim: int = 1024
    ffn_dim: int = 4096
    num_layers: int = 16
    num_heads: int = 8
    n_mels: int = 80
    max_distance: int = 512
    """The furthest frame that has a vector of its own in attention."""
    context: int = 128
    """Frames of a block of attention."""
    conv_kernel: int = 7
    conv_expansion: int = 2
    """Channels of the convolution module, in widths."""
    halving_layers: tuple[int, ...] = (0, 1)
    """Blocks that halve the number of frames."""
    bias: bool = True
    """Of the feed-forward layers."""
    tied: bool = True
    """Whether the CTC head is the one in the middle too."""

    @property
    def frame(self) -> int:
        """Samples of an encoder frame."""
        return STACKED << len(self.halving_layers)


def from_transformers(values: Any, where: str) -> GraniteConfig:
    """The configuration in a `config.json`.

    Raises:
        CheckpointError: naming the key, for what is missing, absurd or not built here.
    """
    top = Values(values, where)
    sizes = top.inner("encoder_config")
    sizes.fixed("hidden_act", "silu")
    vocab_size = top.integer("vocab_size", 16384, 2, MAX_VOCABULARY)
    sizes.fixed("vocab_size", vocab_size)
    num_layers = sizes.integer("num_hidden_layers", 16, 1, MAX_LAYERS)
    num_heads = sizes.integer("num_attention_heads", 8, 1, 256)
    dim = sizes.integer("hidden_size", 1024, 1, MAX_DIM)
    if dim % num_heads:
        raise CheckpointError(f"{where}: {num_heads} heads do not share the width {dim}")
    sizes.fixed("num_key_value_heads", num_heads)
    sizes.fixed("head_dim", dim // num_heads)
    halving = sizes.integers("subsample_layers", (0, 1), 0, num_layers - 1)
    if len(set(halving)) != len(halving) or len(halving) > 6:
        raise sizes.wrong("subsample_layers", "a list of at most 6 different layers")
    max_distance = sizes.integer("max_position_embeddings", 512, 1, MAX_CONTEXT)
    kernel = sizes.integer("conv_kernel_size", 7, 1, 255)
    if kernel % 2 == 0:
        raise sizes.wrong("conv_kernel_size", "odd")
    return GraniteConfig(
        vocab_size=vocab_size,
        blank=top.integer("pad_token_id", 0, 0, vocab_size - 1),
        dim=dim,
        ffn_dim=sizes.integer("intermediate_size", 4096, 1, MAX_FFN),
        num_layers=num_layers,
        num_heads=num_heads,
        n_mels=sizes.integer("num_mel_bins", 80, 1, 1024),
        max_distance=max_distance,
        context=sizes.integer("context_size", 128, 1, max_distance),
        conv_kernel=kernel,
        conv_expansion=sizes.integer("conv_expansion_factor", 2, 1, 16),
        halving_layers=tuple(sorted(halving)),
        bias=sizes.flag("attention_bias", True),
        tied=top.flag("tie_word_embeddings", True),
    )
