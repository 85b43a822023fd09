"""What is taken from a recording, and whether it may be damaged: the one object that travels to the decoders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fun_asr.errors import ConfigError

__all__ = ["AudioOptions", "RawFormat"]

CHANNELS = {"mix": "mix", "left": 0, "right": 1, "each": "each"}
MOST_CHANNELS = 1024
MOST_HERTZ = 4_000_000
RAW_ENCODINGS = {
    "s8": ("PCM_S8", "FILE"), "u8": ("PCM_U8", "FILE"), "alaw": ("ALAW", "FILE"), "mulaw": ("ULAW", "FILE"),
    "s16le": ("PCM_16", "LITTLE"), "s16be": ("PCM_16", "BIG"), "s24le": ("PCM_24", "LITTLE"),
    "s24be": ("PCM_24", "BIG"), "s32le": ("PCM_32", "LITTLE"), "s32be": ("PCM_32", "BIG"),
    "f32le": ("FLOAT", "LITTLE"), "f32be": ("FLOAT", "BIG"), "f64le": ("DOUBLE", "LITTLE"),
    "f64be": ("DOUBLE", "BIG"),
}  # fmt: skip
"""libsndfile's subtype and byte order, by the name that FFmpeg gives the encoding."""


@dataclass(frozen=True)
class RawFormat:
    """How samples without a header are to be read."""

    encoding: str
    """A key of `RAW_ENCODINGS`, such as "s16le"."""
    rate: int
    """Hz."""
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in RAW_ENCODINGS:
            raise ConfigError(f"raw encoding {self.encoding!r} is unknown; use one of {', '.join(RAW_ENCODINGS)}")
        if not 0 < self.rate <= MOST_HERTZ or not 0 < self.channels <= MOST_CHANNELS:
            raise ConfigError(f"raw audio cannot have {self.channels} channels at {self.rate} Hz")

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read "s16le,16000,1": encoding, rate in Hz and, unless it is one, the number of channels.

        Raises:
            ConfigError: when the text is not of that form.
        """
        match = re.fullmatch(r"(\w+),(\d{1,9})(?:,(\d{1,9}))?", text.replace(" ", "").lower())
        if not match:
            raise ConfigError(f"raw format {text!r} is not ENCODING,RATE,CHANNELS, as in s16le,16000,1")
        return cls(match[1], int(match[2]), int(match[3] or 1))

    @property
    def subtype(self) -> str:
        """libsndfile's name of the encoding."""
        return RAW_ENCODINGS[self.encoding][0]

    @property
    def endian(self) -> str:
        """libsndfile's name of the byte order."""
        return RAW_ENCODINGS[self.encoding][1]


@dataclass(frozen=True, kw_only=True)
class AudioOptions:
    """What a caller chose about reading recordings."""

    channels: str = "mix"
    """"mix", "left", "right", "each" (every channel by itself), or a channel's number, from 1."""
    track: str | None = None
    """An audio track's number, from 1, its language, or "all"; None takes the one that a player would."""
    strict: bool = False
    """Refuse a recording of which a part cannot be decoded."""
    raw: RawFormat | None = None
    """Take recordings as samples without a header."""

    def __post_init__(self) -> None:
        number = re.fullmatch(r"[1-9]\d{0,3}", self.channels)
        if self.channels not in CHANNELS and not number:
            raise ConfigError(f"channels {self.channels!r} is none of mix, left, right, each and a number from 1")
        if self.track is not None and not re.fullmatch(r"[1-9]\d{0,3}|[A-Za-z][A-Za-z-]*", self.track):
            raise ConfigError(f"track {self.track!r} is neither a number from 1, nor a language, nor all")

    @property
    def channel(self) -> int | None:
        """The place of the one channel that is taken, from 0; None for a mixture or each."""
        chosen = CHANNELS.get(self.channels)
        if chosen is None:
            return int(self.channels) - 1
        return chosen if isinstance(chosen, int) else None
