"""Recordings for tests: speech-like sound whose place in what is decoded can be found, in many containers."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

RATE = 16_000

Samples = npt.NDArray[np.float32]


def voice(seconds: float, seed: int = 0, rate: int = RATE) -> Samples:
    """Noise below 3 kHz that swells four times a second: nothing else is like it, and codecs keep its waveform."""
    count = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(hertz < 100) | (hertz > 3000)] = 0
    noise = np.fft.irfft(spectrum, count)
    swell = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * np.arange(count) / rate)
    return (0.1 * noise / noise.std() * swell).astype(np.float32)


def lag(found: Samples, wanted: Samples) -> tuple[float, float]:
    """Seconds at which `wanted` begins in `found`, and how like it what stands there is, 1 being the same."""
    size = 1 << (len(found) + len(wanted)).bit_length()
    products = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(wanted, size)), size)
    at = int(products.argmax())
    start = at if at < len(found) else at - size
    part = found[max(0, start) :][: len(wanted)]
    energy = np.sqrt(float(np.square(part, dtype=np.float64).sum()) * float(np.square(wanted, dtype=np.float64).sum()))
    return start / RATE, float(products[at]) / energy if energy else 0.0


def encoded(samples: Samples, format: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    """A file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def write_tracks(
    path: Path,
    tracks: list[list[tuple[float, Samples]]],
    codec: str = "aac",
    languages: list[str] | None = None,
    dispositions: list[av.stream.Disposition] | None = None,
    video_seconds: float = 0.0,
    rate: int = RATE,
    options: dict[str, str] | None = None,
) -> Path:
    """Write audio tracks, each of parts that begin at times in seconds, and perhaps a picture from time zero."""
    with av.open(str(path), "w", options=options or {}) as container:
        picture = None
        if video_seconds:
            picture = container.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        streams = []
        for number in range(len(tracks)):
            stream = container.add_stream(codec, rate=rate)
            stream.layout = "mono"
            if languages:
                stream.metadata["language"] = languages[number]
            if dispositions:
                stream.disposition = dispositions[number]
            streams.append(stream)
        packets = []
        if picture is not None:
            for index in range(round(10 * video_seconds)):
                image = av.VideoFrame.from_ndarray(np.full((96, 64), index % 250, np.uint8), format="yuv420p")
                image.pts = index
                packets += picture.encode(image)
            packets += picture.encode()
        for stream, parts in zip(streams, tracks, strict=True):
            context = stream.codec_context
            context.open(strict=False)
            for start, samples in parts:
                resampler = av.AudioResampler(context.format, "mono", rate, context.frame_size or 1024)
                frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = rate, 0
                position = round(start * rate)
                for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                    piece.pts, piece.time_base = position, Fraction(1, rate)
                    position += piece.samples
                    packets += stream.encode(piece)
            packets += stream.encode()
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        container.mux(packets)
    return path


@pytest.fixture
def make() -> SimpleNamespace:
    """The functions of this module."""
    return SimpleNamespace(voice=voice, lag=lag, encoded=encoded, write_tracks=write_tracks)
