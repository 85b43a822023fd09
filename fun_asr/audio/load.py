"""A recording as samples, for programs that have other uses for it than a transcript."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import decode
from fun_asr.audio.excerpt import Excerpt, cut_out
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.spool import Source, Spool
from fun_asr.errors import AudioDecodeError, ConfigError

__all__ = ["decode_audio"]


def decode_audio(
    source: Source, *, channels: str = "mix", track: str | int | None = None, strict: bool = False
) -> npt.NDArray[np.float32]:
    """Decode a recording to the samples that models hear.

    Arguments:
        source: an audio or video file: its path, or its content as bytes or as a file open for reading in binary; or a
            part of a file, a `fun_asr.audio.excerpt.Excerpt`.
        channels: "mix" (one channel alone where they cancel each other), "left", "right", or a number from 1.
        track: of a file with several audio tracks: a number from 1, or a language; None is the one that a player would
            choose.
        strict: refuse a recording of which a part cannot be decoded, instead of putting silence in its place.

    Returns:
        mono at 16 kHz, in [-1, 1]: float32 `[samples]`.

    Raises:
        AudioDecodeError: when the recording cannot be read.
        ConfigError: when channels or track are several, or none that there can be.
    """
    options = AudioOptions(channels=channels, track=None if track is None else str(track), strict=strict)
    if options.channels == "each" or options.track == "all":
        raise ConfigError("channels each and track all are several rows of samples; decode_audio gives one")
    with Spool() as spool:
        (path,) = spool.paths([source])
        try:
            samples = decode(os.fspath(path), options)
        except AudioDecodeError as error:
            if not spool.is_spooled(os.fsdecode(path)):
                raise
            name = spool.name_of(os.fsdecode(path)) or "a recording in memory"
            raise AudioDecodeError(name, error.cause) from None
    return cut_out(samples, path) if isinstance(path, Excerpt) else samples
