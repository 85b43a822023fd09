"""Decode any audio or video file to mono 16 kHz float32, streaming, and refuse what is not whole."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator

import av
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from fun_asr.audio.containers import find_damage, is_mpeg
from fun_asr.errors import AudioDecodeError

__all__ = ["SAMPLE_RATE", "decode", "probe", "stream"]

SAMPLE_RATE = 16_000  # Hz, of everything after this module
VALUES_PER_READ = 1 << 18  # 1 MiB of float32 over all channels, whatever the file's rate
LOUDEST = 100.0  # 40 dB over full scale: floats beyond it were never scaled to [-1, 1]
LOWEST_RATE = 1000  # Hz: less holds no speech, and a read of it would come to gigabytes at 16 kHz
UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2**63 - 1 where the header leaves the length open

# Playlists (HLS, DASH, concat) are left out: libav would follow them to other files and to the network.
DEMUXERS = (
    "3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,dv,eac3,flac,flv,gsm,gxf,loas,m4a,matroska,mj2,mov,"
    "mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,ogg,rm,shn,tak,truehd,tta,voc,w64,wav,webm,wtv,wv"
)

Samples = npt.NDArray[np.float32]
Piece = tuple[int, Samples]  # rate in Hz, mono samples [n]


def decode(path: str | os.PathLike[str]) -> Samples:
    """Decode a whole recording.

    Parameters
    ----------
    path : str or os.PathLike
        An audio file, or a video file of which the default audio stream is taken.

    Returns
    -------
    float32 [samples]
        The mean of the channels at 16 kHz, in [-1, 1].

    Raises
    ------
    AudioDecodeError
        If the file cannot be read, holds no audio, or is cut short or damaged.
    """
    return np.concatenate(list(stream(path)))


def stream(path: str | os.PathLike[str], block_seconds: float = 30.0) -> Iterator[Samples]:
    """Decode a recording block by block, in memory that depends on neither its length nor its rate.

    Parameters
    ----------
    path : str or os.PathLike
        As for `decode`.
    block_seconds : float
        Length of a block in seconds; the last one is shorter.

    Yields
    ------
    float32 [samples]
        Consecutive blocks, mono at 16 kHz, in [-1, 1]; joined, they are bit for bit what `decode` returns.

    Raises
    ------
    AudioDecodeError
        As for `decode`, while iterating. Some damage shows only at its place in the file, after the blocks before it.
    """
    block = max(1, round(block_seconds * SAMPLE_RATE))
    held: list[Samples] = []
    held_samples = 0
    empty = True
    for samples in _resample(_pieces(path)):
        held.append(np.clip(samples, -1.0, 1.0))
        held_samples += len(samples)
        if held_samples < block:
            continue
        rest = np.concatenate(held)
        while len(rest) >= block:
            # A copy, so that a block kept by the caller keeps nothing else alive.
            yield rest[:block].copy()
            rest, empty = rest[block:], False
        held, held_samples = [rest], len(rest)
    if held_samples:
        yield np.concatenate(held)
    elif empty:
        raise AudioDecodeError(path, "holds no audio samples")


def probe(path: str | os.PathLike[str]) -> float | None:
    """Length of a recording in seconds as its header states it, or None where that takes decoding or is impossible.

    Parameters
    ----------
    path : str or os.PathLike
        As for `decode`; a file that cannot be read gives None.
    """
    try:
        with _open(path) as file:
            if not is_mpeg(file):
                try:
                    info = soundfile.info(_name(path))
                    if 0 < info.frames < UNKNOWN_FRAMES:
                        return float(info.duration)
                except (soundfile.LibsndfileError, TypeError):
                    pass
            with av.open(file, "r", options={"format_whitelist": DEMUXERS}) as container:
                if not container.streams.audio:
                    return None
                chosen = _default_stream(container)
                # A video's own duration is that of its longest stream.
                if chosen.duration and chosen.time_base:
                    return float(chosen.duration * chosen.time_base)
                return container.duration / 1_000_000 if container.duration else None  # libav counts in microseconds
    except (AudioDecodeError, OSError, av.FFmpegError, ValueError):
        return None


def _resample(pieces: Iterable[Piece]) -> Iterator[Samples]:
    """Pieces at any rate -> float32 [n] at 16 kHz; the rate may change on the way (chained or broadcast streams)."""
    rate, resampler = 0, None
    nothing = np.zeros(0, np.float32)
    for piece_rate, samples in pieces:
        if piece_rate != rate:
            if resampler is not None:
                yield resampler.resample_chunk(nothing, last=True)
            rate, resampler = piece_rate, soxr.ResampleStream(piece_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        assert resampler is not None
        yield resampler.resample_chunk(samples)
    if resampler is not None:
        yield resampler.resample_chunk(nothing, last=True)


def _pieces(path: str | os.PathLike[str]) -> Iterator[Piece]:
    """The recording at its own rate, mono; every failure becomes an AudioDecodeError."""
    with _open(path) as file:
        try:
            damage = find_damage(file)
            if damage:
                raise AudioDecodeError(path, damage)
            sound = None if is_mpeg(file) else _open_soundfile(path)
            pieces = _from_pyav(path, file) if sound is None else _from_soundfile(path, sound)
            for rate, samples in pieces:
                if rate < LOWEST_RATE:
                    raise AudioDecodeError(path, f"its header, perhaps damaged, says {rate} samples a second")
                # Written so that NaN fails too.
                if len(samples) and not float(np.abs(samples).max()) <= LOUDEST:
                    raise AudioDecodeError(path, "samples are NaN, infinite or far outside [-1, 1]; export it again")
                yield rate, samples
        # ValueError: samples in a form that PyAV does not hand over.
        except (soundfile.LibsndfileError, av.FFmpegError, OSError, ValueError) as error:
            text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
            raise AudioDecodeError(path, f"damaged or unreadable: {text}") from error


def _open(path: str | os.PathLike[str]) -> io.BufferedReader:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioDecodeError(path, "is a directory, not a recording")
        if not stat.S_ISREG(status.st_mode):
            raise AudioDecodeError(path, "is not a regular file; write the audio to a file first")
        if status.st_size == 0:
            raise AudioDecodeError(path, "is empty (0 bytes)")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise AudioDecodeError(path, getattr(error, "strerror", None) or str(error)) from error


def _name(path: str | os.PathLike[str]) -> str | bytes:
    """Bytes where file names are bytes: soundfile encodes strictly, and old archives hold names that are not UTF-8."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def _open_soundfile(path: str | os.PathLike[str]) -> soundfile.SoundFile | None:
    """None where soundfile cannot read the file, or finds no length in it (FLAC and WAV written to a pipe)."""
    try:
        sound = soundfile.SoundFile(_name(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name in .raw, which it takes for headerless audio
        return None
    if sound.format == "MP3" or not 0 < sound.frames < UNKNOWN_FRAMES:
        sound.close()
        return None
    return sound


def _from_soundfile(path: str | os.PathLike[str], sound: soundfile.SoundFile) -> Iterator[Piece]:
    with sound:
        frames = max(1, VALUES_PER_READ // sound.channels)
        read = 0
        while len(samples := sound.read(frames, dtype="float32", always_2d=True)):
            read += len(samples)
            yield sound.samplerate, samples.mean(axis=1)
        if read < sound.frames:
            raise AudioDecodeError(path, f"damaged or cut short: {read} of {sound.frames} frames can be decoded")


def _from_pyav(path: str | os.PathLike[str], file: io.BufferedReader) -> Iterator[Piece]:
    file.seek(0)
    try:
        container = av.open(file, "r", options={"format_whitelist": DEMUXERS})
    except (av.FFmpegError, ValueError) as error:
        raise AudioDecodeError(path, "not audio or video in a known format, or its header is damaged") from error
    with container:
        if not container.streams.audio:
            raise AudioDecodeError(path, "holds no audio stream")
        chosen = _default_stream(container)
        if chosen.codec_context is None:
            raise AudioDecodeError(path, "no decoder for its audio codec; convert it to WAV or FLAC")
        for frame in container.decode(chosen):
            assert isinstance(frame, av.AudioFrame)
            yield frame.sample_rate, _mono(frame)


def _default_stream(container: av.container.InputContainer) -> av.AudioStream:
    streams = container.streams.audio
    return next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])


def _mono(frame: av.AudioFrame) -> Samples:
    """A frame of any sample format -> float32 [n], the mean of its channels."""
    values = frame.to_ndarray()  # planar [channels, n], packed [1, n * channels]
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    mean = values.mean(axis=0, dtype=np.float64)
    if values.dtype == np.uint8:
        mean = (mean - 128.0) / 128.0
    elif values.dtype.kind == "i":
        mean = mean / 2.0 ** (8 * values.dtype.itemsize - 1)
    return np.asarray(mean, np.float32)
