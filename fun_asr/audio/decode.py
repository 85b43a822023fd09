"""Decode any audio or video file to mono 16 kHz float32, streaming, and say what of it could not be decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
import soundfile

from fun_asr.audio.containers import Damage, is_mpeg
from fun_asr.audio.links import Link, beginning, find_links
from fun_asr.audio.mono import Apart, ToMono
from fun_asr.audio.options import AudioOptions
from fun_asr.audio.pieces import Frames, Hole, Piece
from fun_asr.audio.readers import open_container, open_sound, read_container, read_sound
from fun_asr.audio.report import SAMPLE_RATE, AudioReport
from fun_asr.audio.source import is_spooled, open_source
from fun_asr.audio.tracks import choose_track, loud_tracks
from fun_asr.errors import AudioDecodeError

__all__ = ["SAMPLE_RATE", "Pass", "decode", "passes", "probe", "stream"]

INAUDIBLE = 10 ** (-70 / 20)  # full scale is 1: the greatest sample of a track that nobody hears

Samples = npt.NDArray[np.float32]
Path = str | os.PathLike[str]


def decode(path: Path, options: AudioOptions | None = None, report: AudioReport | None = None) -> Samples:
    """Decode a whole recording.

    Arguments:
        path: an audio file, a video file, or a pipe, which is read to its end first.
        options: which track and channels; "each" and "all" are for `passes`.
        report: told what could not be decoded, and more.

    Returns:
        Mono at 16 kHz, in [-1, 1].

    Raises:
        AudioDecodeError: if the file cannot be read, or holds no audio; if it is cut short or damaged and the options
            are strict.
    """
    return np.concatenate(list(stream(path, options=options, report=report)))


def stream(
    path: Path,
    block_seconds: float = 30.0,
    options: AudioOptions | None = None,
    report: AudioReport | None = None,
) -> Generator[Samples, None, None]:
    """Decode a recording block by block, in memory that depends on neither its length nor its rate.

    Arguments:
        path: as for `decode`.
        block_seconds: length of a block in seconds; the last one is shorter.
        options, report: as for `decode`; the report is complete after the last block.

    Yields:
        Consecutive blocks, mono at 16 kHz, in [-1, 1]; joined, they are bit for bit what `decode` returns.

    Raises:
        AudioDecodeError: as for `decode`, while iterating. Some damage shows only at its place in the file, after the
            blocks before it.
    """
    options = options or AudioOptions()
    if options.channels == "each" or options.track == "all":
        raise ValueError("a stream has one track and one channel; passes() gives several")
    with open_source(path) as file:
        yield from Pass(path, file, options, report or AudioReport()).blocks(block_seconds)


def passes(path: Path, options: AudioOptions, report: AudioReport) -> Generator[Pass, None, None]:
    """Every stream of a recording that the options ask for, each to be read to its end before the next one is taken.

    Arguments:
        path: as for `decode`.
        options: every track gives a pass if `track` is "all"; every channel gives one if `channels` is "each".
        report: told about all of them.

    Raises:
        AudioDecodeError: as for `decode`, while iterating.
    """
    with open_source(path) as file:
        tracks: list[str | None] = [options.track]
        if options.track == "all":
            tracks = [str(number + 1) for number in range(_count_tracks(path, file))] or [None]
        for track in tracks:
            channel, count = 1, 1
            while channel <= count:
                channels = str(channel) if options.channels == "each" else options.channels
                own = AudioReport()
                chosen = replace(options, channels=channels, track=track)
                one = Pass(path, file, chosen, own, repeated=options.channels == "each")
                one.track = int(track) if options.track == "all" and track else None
                one.channel = channel if options.channels == "each" else None
                try:
                    yield one
                finally:
                    report.merge(own)
                if options.channels == "each":
                    count = own.channels
                channel += 1
        if options.track == "all":
            report.track = None


class Pass:
    """One stream of samples out of a recording.

    Arguments:
        path: the recording, for messages.
        file: where it is read from.
        options: with one track, and one channel or a mixture.
        report: told what is found.
        repeated: whether the channels are heard one after the other, so that none need be compared.
    """

    def __init__(
        self, path: Path, file: io.FileIO, options: AudioOptions, report: AudioReport, repeated: bool = False
    ) -> None:
        self._path, self._file, self._options, self.report = path, file, options, report
        self.track: int | None = None
        """The track's number where several are read, else None."""
        self.channel: int | None = None
        """The channel's number where several are read, else None."""
        self.apart = Apart() if options.channels == "mix" and not repeated else None
        """What the channels do not share; complete after the last block."""

    def blocks(self, block_seconds: float = 30.0) -> Iterator[Samples]:
        """As `stream`."""
        block = max(1, round(block_seconds * SAMPLE_RATE))
        held: list[Samples] = []
        held_samples = 0
        empty = True
        mono = ToMono(self._path, self._options, self.report, self.apart)
        peak = 0.0
        for samples in mono.samples(self._pieces()):
            clipped = np.clip(samples, -1.0, 1.0)
            peak = max(peak, float(clipped.max(initial=0.0)), -float(clipped.min(initial=0.0)))
            held.append(clipped)
            held_samples += len(samples)
            if held_samples < block:
                continue
            rest = np.concatenate(held)
            while len(rest) >= block:
                # A copy, so that a block kept by the caller keeps nothing else alive.
                yield rest[:block].copy()
                rest, empty = rest[block:], False
            held, held_samples = [rest], len(rest)
        self._listen_elsewhere(peak)
        if held_samples:
            yield np.concatenate(held)
        elif empty:
            raise AudioDecodeError(self._path, "holds no audio samples")

    def _pieces(self) -> Iterator[Piece]:
        """The recording as its containers have it; every failure becomes an AudioDecodeError, or a hole."""
        try:
            if self._options.raw is not None:
                yield from self._raw()
                return
            yield from self._links(find_links(self._file))
        # ValueError: samples in a form that PyAV does not hand over.
        except (soundfile.LibsndfileError, av.FFmpegError, OSError, ValueError) as error:
            text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
            raise AudioDecodeError(self._path, f"damaged or unreadable: {text}") from error

    def _raw(self) -> Iterator[Piece]:
        sound = open_sound(self._file, self._options.raw)
        if sound is None:
            raise AudioDecodeError(self._path, "cannot be read as raw audio")
        if self._options.track not in (None, "1"):
            raise AudioDecodeError(self._path, "is raw audio and has one track")
        yield from read_sound(sound)

    def _links(self, links: list[Link], *, search: bool = True) -> Iterator[Piece]:
        """Recordings that follow each other; with `search`, those behind what cannot be read are looked for, once."""
        if self._options.strict:
            damage = next((link.damage for link in links if link.damage), None)
            if damage:
                raise AudioDecodeError(self._path, f"{damage.cause}; copy or download it again")
        heard = 0
        error: AudioDecodeError | None = None
        for link in links:
            try:
                for piece in self._link(link):
                    heard += isinstance(piece, Frames)
                    yield piece
            except AudioDecodeError as raised:
                if self._options.strict or self._options.track not in (None, "1"):
                    raise
                error = error or raised
                if heard:
                    yield Hole(SAMPLE_RATE, None, raised.cause, filled=False)
        self.report.links = len(links)
        if heard or error is None:
            return
        start = beginning(self._file) if search and len(links) == 1 else 0
        if not start:
            damage = next((link.damage for link in links if link.damage), None)
            raise AudioDecodeError(self._path, damage.cause) if damage else error
        yield from self._links(find_links(self._file, start), search=False)

    def _link(self, link: Link) -> Iterator[Piece]:
        """One recording of the file; libsndfile reads it if it can, and FFmpeg's libraries what is left then."""
        file = link.open(self._file)
        read = 0
        cause = ""
        if not is_mpeg(file) and not (link.damage and _is_ogg(file)):
            sound = open_sound(file)
            if sound is not None:
                if self._options.track not in (None, "1") and not _is_ogg(file):
                    raise AudioDecodeError(self._path, f"has one audio track, and none is {self._options.track!r}")
                promised, rate = sound.frames, sound.samplerate
                try:
                    for piece in read_sound(sound, link.damage):
                        read += len(piece.values) if isinstance(piece, Frames) else 0
                        yield piece
                    return
                except soundfile.LibsndfileError as error:
                    cause = f"damaged or cut short: {error.error_string}".rstrip(" .:")
                    if self._options.strict:
                        raise
        track = None if cause else self._options.track
        damage = Damage(cause) if cause else link.damage
        pieces = read_container(self._path, file, track, self.report, damage)
        if not cause:
            yield from pieces
            return
        ended = False
        try:
            left = read
            for piece in pieces:
                part = _without(piece, left)
                left -= min(left, _length(piece))
                if part is not None:
                    read += _length(part) if part.rate == rate else 0
                    ended = isinstance(part, Hole) and not part.filled
                    yield part
        except AudioDecodeError:
            if not read:
                raise
        if read < promised and not ended:
            yield Hole(rate, promised - read, cause, filled=False)

    def _listen_elsewhere(self, peak: float) -> None:
        """Say so if the track is silent and others are not."""
        report = self.report
        if peak > INAUDIBLE or len(report.tracks) < 2 or self.track is not None:
            return
        loud = loud_tracks(self._path, self._file, INAUDIBLE)
        if loud:
            listed = ", ".join(map(str, loud))
            report.warn(
                f"audio track {report.track} of {len(report.tracks)} is silent, and track {listed} is not; "
                f"choose with --track {loud[0]}"
            )


def _is_ogg(file: BinaryIO) -> bool:
    file.seek(0)
    found = file.read(4) == b"OggS"
    file.seek(0)
    return found


def _length(piece: Piece) -> int:
    return len(piece.values) if isinstance(piece, Frames) else (piece.frames or 0) * piece.filled


def _without(piece: Piece, frames: int) -> Piece | None:
    """A piece less its first frames; None where nothing is left."""
    if frames == 0:
        return piece
    if _length(piece) <= frames:
        return None
    if isinstance(piece, Frames):
        return Frames(piece.rate, piece.values[frames:])
    return piece._replace(frames=(piece.frames or 0) - frames)


def _count_tracks(path: Path, file: BinaryIO) -> int:
    with open_container(path, file) as container:
        return len(container.streams.audio)


def probe(path: Path, options: AudioOptions | None = None) -> float | None:
    """Length of a recording in seconds as its header states it, or None where that takes decoding or is impossible.

    Arguments:
        path: as for `decode`; a file that cannot be read gives None, and so does a pipe, which is not touched.
        options: as for `decode`.
    """
    options = options or AudioOptions()
    if is_spooled(path):
        return None
    try:
        with open_source(path) as file:
            if options.raw is not None or not is_mpeg(file):
                sound = open_sound(file, options.raw)
                if sound is not None:
                    with sound:
                        return float(sound.frames / sound.samplerate)
            with open_container(path, file) as container:
                wanted = None if options.track == "all" else options.track
                chosen = choose_track(path, container.streams.audio, wanted)[1]
                # A video's own duration is that of its longest stream.
                if chosen.duration and chosen.time_base:
                    return float(chosen.duration * chosen.time_base)
                return container.duration / 1_000_000 if container.duration else None  # libav counts in microseconds
    except (AudioDecodeError, OSError, av.FFmpegError, ValueError):
        return None
