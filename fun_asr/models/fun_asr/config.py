"""The configuration that travels inside a model directory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from fun_asr.errors import ConfigError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND, EncoderConfig

# 0 leaves the convolution modules, the CTC head's blocks or the routed experts out.
_OPTIONAL_SIZES = {"conv_kernel", "num_blocks", "num_experts", "num_experts_per_token", "expert_dim", "silence_frames"}


@dataclass(frozen=True, kw_only=True)
class CTCConfig:
    """Sizes of the CTC head and what it knows; `vocab_size` counts the blank, which is the last index."""

    languages: tuple[str, ...] = ("en",)
    """Codes of the languages that its vocabulary writes: only their words have times and are checked by the guard. The
    bare words of CTC are formatted as the first one's."""

    vocab_size: int = 1001
    hidden_dim: int = 512
    kernel: int = 5
    """Frames that each of the two convolutions spans."""
    stride: int = 2
    """Of the first convolution: encoder frames a CTC frame."""
    num_blocks: int = 2
    num_heads: int = 8
    block_kernel: int = 11
    """CTC frames that the depth-wise convolution of each block spans."""


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """The decoder's cross-attention, as word times are read off it."""

    heads: tuple[tuple[int, int], ...] = ()
    """Layer and head of those that look where a token is said; none for all of the later half of the layers."""
    lead: int = 0
    """Frames of 20 ms that they are ahead of the sound; negative where they are behind."""

    def __post_init__(self) -> None:
        if not all(
            isinstance(pair, list | tuple) and len(pair) == 2 and all(type(part) is int and part >= 0 for part in pair)
            for pair in self.heads
        ):
            raise ConfigError("alignment.heads is no list of layers and heads")
        object.__setattr__(self, "heads", tuple((layer, head) for layer, head in self.heads))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole recogniser."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    ctc: CTCConfig = field(default_factory=CTCConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)

    def __post_init__(self) -> None:
        for part in ("encoder", "ctc", "decoder"):
            sizes = dataclasses.asdict(getattr(self, part))
            for name, size in sizes.items():
                if name == "languages":
                    continue
                least = 0 if name in _OPTIONAL_SIZES else 1
                if size < least:
                    raise ConfigError(f"{part}.{name} must be at least {least}, got {size}")
        if self.encoder.dim % self.encoder.num_heads or self.decoder.dim % self.decoder.num_heads:
            raise ConfigError("dim must be a multiple of num_heads")
        if self.ctc.hidden_dim % self.ctc.num_heads:
            raise ConfigError("ctc.hidden_dim must be a multiple of ctc.num_heads")
        for name, kernel in (
            ("encoder.conv_kernel", self.encoder.conv_kernel),
            ("ctc.kernel", self.ctc.kernel),
            ("ctc.block_kernel", self.ctc.block_kernel),
        ):
            if kernel and kernel % 2 == 0:
                raise ConfigError(f"{name} must be odd")
        if not self.ctc.languages or not all(isinstance(code, str) and code for code in self.ctc.languages):
            raise ConfigError("ctc.languages must name at least one language by its code")
        if ENCODER_FRAMES_PER_SECOND % self.ctc.stride:
            raise ConfigError(f"ctc.stride must divide the encoder's {ENCODER_FRAMES_PER_SECOND} frames a second")
        if self.encoder.dim != self.decoder.dim:
            raise ConfigError("encoder.dim and decoder.dim must be equal: the decoder attends to the encoder's output")
        for layer, head in self.alignment.heads:
            if layer >= self.decoder.num_layers or head >= self.decoder.num_heads:
                raise ConfigError(f"alignment.heads names layer {layer}, head {head}, which the decoder does not have")
        if self.decoder.num_experts and not 1 <= self.decoder.num_experts_per_token <= self.decoder.num_experts:
            raise ConfigError("decoder.num_experts_per_token must lie in [1, num_experts]")

    @property
    def ctc_frames_per_second(self) -> int:
        """Frames of the CTC head a second of sound."""
        return ENCODER_FRAMES_PER_SECOND // self.ctc.stride
