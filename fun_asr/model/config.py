"""Model configuration: frozen dataclasses that travel inside the checkpoint and are read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from fun_asr.errors import ConfigError

T = TypeVar("T")

ENCODER_FRAMES_PER_SECOND = 50

# 0 leaves the convolution modules, the CTC head's blocks or the routed experts out.
_OPTIONAL_SIZES = {"conv_kernel", "num_blocks", "num_experts", "num_experts_per_token", "expert_dim"}


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
class DecoderConfig:
    """Sizes of the autoregressive mixture-of-experts decoder."""

    vocab_size: int = 51_865
    dim: int = 512
    num_layers: int = 6
    num_heads: int = 8
    ffn_dim: int = 2048
    """Hidden width of the shared expert."""
    num_experts: int = 8
    """Routed experts per layer; 0 leaves only the shared expert."""
    num_experts_per_token: int = 2
    expert_dim: int = 128
    """Hidden width of one routed expert."""
    max_tokens: int = 448
    """Longest sequence, prompt included."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The whole recogniser."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    ctc: CTCConfig = field(default_factory=CTCConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    def __post_init__(self) -> None:
        for part, sizes in dataclasses.asdict(self).items():
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
        if self.decoder.num_experts and not 1 <= self.decoder.num_experts_per_token <= self.decoder.num_experts:
            raise ConfigError("decoder.num_experts_per_token must lie in [1, num_experts]")

    @property
    def ctc_frames_per_second(self) -> int:
        """Frames of the CTC head a second of sound."""
        return ENCODER_FRAMES_PER_SECOND // self.ctc.stride


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Build a config dataclass from nested mappings.

    Arguments:
        cls: the dataclass.
        values: keys are field names; nested dataclasses take nested mappings.
        where: name used in error messages, e.g. the file's.

    Raises:
        ConfigError: for an unknown key, a value of the wrong type or a missing required key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {type(values).__name__}")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(hints)}")
    built: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        item = get_args(hint)[0] if get_origin(hint) is tuple else None
        if dataclasses.is_dataclass(item) and isinstance(item, type) and isinstance(value, list):
            built[key] = tuple(from_mapping(item, v, f"{where}: {key}[{i}]") for i, v in enumerate(value))
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            built[key] = from_mapping(hint, value, f"{where}: {key}")
        else:
            built[key] = _checked(value, hint, f"{where}: {key}")
    try:
        return cls(**built)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _checked(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"{where}: expected a number, got {value!r}") from None
    if hint in (int, float, str, bool) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return tuple(value) if isinstance(value, list) else value


def load_yaml(cls: type[T], path: Path) -> T:
    """Read a config dataclass from a YAML file.

    Raises:
        ConfigError: when the file cannot be read, is no YAML, or does not describe `cls`.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: no valid YAML (nested too deep)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no valid YAML ({str(error).splitlines()[0]})") from None
    return from_mapping(cls, values or {}, str(path))
