"""Sizes of a Whisper model, and what is published of how its texts are searched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fun_asr.errors import ConfigError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig

__all__ = ["Generation", "WhisperConfig", "from_dims", "from_transformers", "read_generation", "to_transformers"]

ENGLISH_VOCABULARY = 51_864  # tokens; the others have one more, and those of languages that came later

# More than any model of this kind has: what a damaged file asks for is refused before it is built.
_LARGEST = {
    "n_mels": 1024,
    "dim": 16_384,
    "encoder_layers": 256,
    "encoder_heads": 1024,
    "encoder_ffn_dim": 65_536,
    "decoder_layers": 256,
    "decoder_heads": 1024,
    "decoder_ffn_dim": 65_536,
    "vocab_size": 1_000_000,
    "max_frames": 65_536,
    "max_tokens": 65_536,
}


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """The sizes of a model; the defaults are those of Whisper base.

    Raises:
        ConfigError: when one is out of range.
    """

    n_mels: int = 80
    """Log-mel bins: 128 from large-v3 on."""
    dim: int = 512
    encoder_layers: int = 6
    encoder_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 6
    """2 in distil-whisper, 4 in large-v3-turbo."""
    decoder_heads: int = 8
    decoder_ffn_dim: int = 2048
    vocab_size: int = 51_865
    max_frames: int = 1500
    """Encoder frames (20 ms) that every input is padded to."""
    max_tokens: int = 448
    """Longest sequence, prompt included."""

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"{name} is {str(value)[:40]}, not a whole number from 1 to {most}")
        for heads in (self.encoder_heads, self.decoder_heads):
            if self.dim % heads:
                raise ConfigError(f"the width {self.dim} is no multiple of {heads} heads")
        if self.dim % 2 or self.dim < 4:
            raise ConfigError(f"the width {self.dim} is no even number from 4 on")

    @property
    def multilingual(self) -> bool:
        """Whether a vocabulary of this size is one of many languages."""
        return self.vocab_size != ENGLISH_VOCABULARY

    @property
    def encoder(self) -> EncoderConfig:
        """The encoder's sizes: it has no convolution modules."""
        return EncoderConfig(
            n_mels=self.n_mels,
            dim=self.dim,
            num_layers=self.encoder_layers,
            num_heads=self.encoder_heads,
            ffn_dim=self.encoder_ffn_dim,
            conv_kernel=0,
            max_frames=self.max_frames,
        )

    @property
    def decoder(self) -> DecoderConfig:
        """The decoder's sizes: it has no routed experts."""
        return DecoderConfig(
            vocab_size=self.vocab_size,
            dim=self.dim,
            num_layers=self.decoder_layers,
            num_heads=self.decoder_heads,
            ffn_dim=self.decoder_ffn_dim,
            num_experts=0,
            max_tokens=self.max_tokens,
        )


# Our names for the keys of transformers' config.json and of the dims in OpenAI's files.
_TRANSFORMERS = {
    "num_mel_bins": "n_mels",
    "d_model": "dim",
    "encoder_layers": "encoder_layers",
    "encoder_attention_heads": "encoder_heads",
    "encoder_ffn_dim": "encoder_ffn_dim",
    "decoder_layers": "decoder_layers",
    "decoder_attention_heads": "decoder_heads",
    "decoder_ffn_dim": "decoder_ffn_dim",
    "vocab_size": "vocab_size",
    "max_source_positions": "max_frames",
    "max_target_positions": "max_tokens",
}
_DIMS = {
    "n_mels": "n_mels",
    "n_audio_state": "dim",
    "n_audio_layer": "encoder_layers",
    "n_audio_head": "encoder_heads",
    "n_text_layer": "decoder_layers",
    "n_text_head": "decoder_heads",
    "n_vocab": "vocab_size",
    "n_audio_ctx": "max_frames",
    "n_text_ctx": "max_tokens",
}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    missing = next((name for name in names if name not in values), None)
    if missing is not None:
        raise ConfigError(f"{missing} is missing")
    return {ours: values[theirs] for theirs, ours in names.items()}


def from_transformers(values: Mapping[str, Any]) -> WhisperConfig:
    """The sizes in transformers' `config.json`.

    Raises:
        ConfigError: when one is missing or out of range, or asks for another network.
    """
    for name, usual in (("activation_function", "gelu"), ("scale_embedding", False)):
        if values.get(name, usual) != usual:
            raise ConfigError(f"{name} is {values[name]!r}; only {usual!r} is known")
    try:
        return WhisperConfig(**_renamed(values, _TRANSFORMERS))
    except ConfigError as error:
        raise ConfigError(_in_words_of(str(error), _TRANSFORMERS)) from None


def to_transformers(config: WhisperConfig) -> dict[str, Any]:
    """transformers' `config.json` of a model of these sizes."""
    sizes = {theirs: getattr(config, ours) for theirs, ours in _TRANSFORMERS.items()}
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "scale_embedding": False,
        **sizes,
    }


def from_dims(values: Mapping[str, Any]) -> WhisperConfig:
    """The sizes in the `dims` of OpenAI's files.

    Raises:
        ConfigError: when one is missing or out of range.
    """
    if values.get("n_text_state", values.get("n_audio_state")) != values.get("n_audio_state"):
        raise ConfigError("n_text_state differs from n_audio_state")
    sizes = _renamed(values, _DIMS)
    width = sizes["dim"] if isinstance(sizes["dim"], int) else 0
    try:
        return WhisperConfig(**sizes, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width)
    except ConfigError as error:
        raise ConfigError(_in_words_of(str(error), _DIMS)) from None


def _in_words_of(message: str, names: Mapping[str, str]) -> str:
    """A message with the name that the file uses."""
    first, _, rest = message.partition(" ")
    theirs = next((theirs for theirs, ours in names.items() if ours == first), first)
    return f"{theirs} {rest}"


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is published beside the weights of how texts are searched."""

    suppress: tuple[int, ...] | None = None
    """Tokens never written; None where nothing is published, not even that there are none."""
    suppress_first: tuple[int, ...] | None = None
    """Tokens never written first."""
    alignment_heads: tuple[tuple[int, int], ...] = ()
    """Layer and head of the cross-attention that follows the words in time."""
    multilingual: bool | None = None
    """None where it is not said: the size of the vocabulary tells."""

    def checked(self, config: WhisperConfig) -> Generation:
        """With what the model lacks left out.

        Raises:
            ConfigError: for alignment heads that it does not have.
        """
        for layer, head in self.alignment_heads:
            if not (0 <= layer < config.decoder_layers and 0 <= head < config.decoder_heads):
                raise ConfigError(f"alignment_heads names layer {layer}, head {head}, which the model does not have")

        def known(tokens: tuple[int, ...] | None) -> tuple[int, ...] | None:
            return None if tokens is None else tuple(token for token in tokens if 0 <= token < config.vocab_size)

        return dataclasses.replace(self, suppress=known(self.suppress), suppress_first=known(self.suppress_first))


def read_generation(values: Mapping[str, Any], suppress: str, suppress_first: str) -> Generation:
    """What a `generation_config.json` of transformers, or a `config.json` of CTranslate2, says.

    Arguments:
        values: the file's.
        suppress, suppress_first: its names for the tokens that are never written, and never first.

    Raises:
        ConfigError: when a value is not what its name promises.
    """

    def tokens(name: str) -> tuple[int, ...] | None:
        found = values.get(name)
        if found is None:
            return () if name in values else None
        if not isinstance(found, list) or not all(isinstance(token, int) for token in found):
            raise ConfigError(f"{name} is no list of tokens")
        return tuple(found)

    heads = values.get("alignment_heads") or []
    if not isinstance(heads, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(number, int) for number in pair) for pair in heads
    ):
        raise ConfigError("alignment_heads is no list of layers and heads")
    multilingual = values.get("is_multilingual")
    return Generation(
        suppress=tokens(suppress),
        suppress_first=tokens(suppress_first),
        alignment_heads=tuple((layer, head) for layer, head in heads),
        multilingual=multilingual if isinstance(multilingual, bool) else None,
    )
