"""Read a recording's samples by libsndfile or by FFmpeg's libraries, and notice where some are missing."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
import soundfile

from fun_asr.audio.containers import Damage, mp3_frames
from fun_asr.audio.options import RawFormat
from fun_asr.audio.pieces import Frames, Hole, Piece
from fun_asr.audio.report import AudioReport
from fun_asr.audio.timeline import Timeline, packets
from fun_asr.audio.tracks import choose_track, describe_tracks
from fun_asr.errors import AudioDecodeError

__all__ = ["DEMUXERS", "open_container", "open_sound", "read_container", "read_sound"]

VALUES_PER_READ = 1 << 18  # 1 MiB of float32 over all channels, whatever the file's rate
UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2**63 - 1 where the header leaves the length open
GATHERED = 1 << 15  # frames of small packets that are handed on together

# Playlists (HLS, DASH, concat) are left out: libav would follow them to other files and to the network.
DEMUXERS = (
    "3g2,3gp,aac,ac3,adx,aiff,amr,amrnb,amrwb,ape,aptx,aptx_hd,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,g722,gsm,"
    "gxf,iff,ircam,live_flv,loas,m4a,matroska,mj2,mlp,mmf,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nist,nut,ogg,oma,qcp,rm,"
    "sbc,shn,sox,tak,truehd,tta,voc,w64,wav,webm,wsd,wtv,wv,xwma"
)
# Their time stamps are numbers of frames that their reader has counted itself: over lost bytes it does not count.
COUNTED = frozenset({"mp3", "aac", "ac3", "eac3", "dts", "loas", "amr", "amrnb", "amrwb", "truehd", "mlp", "gsm"})


def open_sound(file: BinaryIO, raw: RawFormat | None = None) -> soundfile.SoundFile | None:
    """None where libsndfile cannot read the file, or finds no length in it (FLAC and WAV written to a pipe)."""
    file.seek(0)
    # By its descriptor, not its name: libsndfile would take some names for a format, whatever the content.
    by_descriptor = os.name == "posix" and isinstance(file, io.FileIO)
    target = os.dup(file.fileno()) if by_descriptor else file
    try:
        if raw is not None:
            sound = soundfile.SoundFile(
                target,
                samplerate=raw.rate,
                channels=raw.channels,
                subtype=raw.subtype,
                endian=raw.endian,
                format="RAW",
                closefd=True,
            )
        else:
            sound = soundfile.SoundFile(target, closefd=True)
    except (soundfile.LibsndfileError, TypeError):
        return None
    # MPEG audio in WAV has frames that libsndfile miscounts.
    if sound.format == "MP3" or "MPEG" in sound.subtype or not 0 < sound.frames < UNKNOWN_FRAMES:
        sound.close()
        return None
    return sound


def read_sound(sound: soundfile.SoundFile, damage: Damage | None = None) -> Iterator[Piece]:
    """Everything that libsndfile decodes; a shorter one than the header promised raises LibsndfileError.

    Arguments:
        sound: closed at the end.
        damage: what is known to be wrong with the file.
    """
    with sound:
        frames = max(1, VALUES_PER_READ // sound.channels)
        read = 0
        while len(values := sound.read(frames, dtype="float32", always_2d=True)):
            read += len(values)
            yield Frames(sound.samplerate, values)
        if read < sound.frames:
            raise soundfile.LibsndfileError(0, f"{read} of {sound.frames} frames can be decoded: ")
        if damage is not None:
            missing = round(read * damage.missing / (1 - damage.missing)) if damage.missing else None
            yield Hole(sound.samplerate, missing, damage.cause, filled=False)


def open_container(path: str | os.PathLike[str], file: BinaryIO) -> av.container.InputContainer:
    """Open a recording with FFmpeg's libraries.

    Raises:
        AudioDecodeError: when they do not know it, or it has no audio.
    """
    file.seek(0)
    try:
        container = av.open(file, "r", options={"format_whitelist": DEMUXERS})
    except (av.FFmpegError, ValueError) as error:
        raise AudioDecodeError(path, "not audio or video in a known format, or its header is damaged") from error
    if not container.streams.audio:
        container.close()
        raise AudioDecodeError(path, "holds no audio stream")
    return container


def read_container(
    path: str | os.PathLike[str], file: BinaryIO, wanted: str | None, report: AudioReport, damage: Damage | None = None
) -> Iterator[Piece]:
    """Everything that FFmpeg's libraries decode of a track, at the times that its container states.

    Arguments:
        path: the recording, for messages.
        file: where it is read from.
        wanted: the track's number or language; None for the default one.
        report: told about the tracks.
        damage: what is known to be wrong with the file.

    Raises:
        AudioDecodeError: when it is not a known format or has no such track.
    """
    frames, size = mp3_frames(file), file.seek(0, os.SEEK_END)
    with open_container(path, file) as container:
        streams = container.streams.audio
        number, stream = choose_track(path, streams, wanted)
        if len(streams) > 1:
            report.tracks, report.track = describe_tracks(container), number
        if stream.codec_context is None:
            raise AudioDecodeError(path, "no decoder for its audio codec; convert it to WAV or FLAC")
        if stream.codec_context.name == "flac":
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        counted = container.format.name in COUNTED
        timeline = Timeline(container, stream, damage, frames if counted else None, size if counted else None)
        yield from _gathered(timeline.place(packets(container, stream)))


def _gathered(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Frames that follow each other joined: packets are small."""
    held: list[npt.NDArray[np.float32]] = []
    rate = channels = count = 0
    for piece in pieces:
        if isinstance(piece, Frames):
            if held and (piece.rate, piece.values.shape[1]) != (rate, channels):
                yield Frames(rate, np.concatenate(held))
                held, count = [], 0
            rate, channels = piece.rate, piece.values.shape[1]
            held.append(piece.values)
            count += len(piece.values)
            if count < GATHERED:
                continue
        if held:
            yield Frames(rate, np.concatenate(held))
            held, count = [], 0
        if isinstance(piece, Hole):
            yield piece
    if held:
        yield Frames(rate, np.concatenate(held))
