"""Samples without a header, and pipes."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fun_asr.audio.decode import decode, probe
from fun_asr.audio.options import AudioOptions, RawFormat
from fun_asr.errors import AudioDecodeError, ConfigError

ENCODINGS = {
    "s8": ("i1", 128), "u8": ("u1", 128), "s16le": ("<i2", 32768), "s16be": (">i2", 32768), "s32le": ("<i4", 2.0**31),
    "s32be": (">i4", 2.0**31), "f32le": ("<f4", 1), "f32be": (">f4", 1), "f64le": ("<f8", 1), "f64be": (">f8", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ["a.raw", "a.pcm", "a.wav", "a"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_raw_samples(tmp_path: Path, make: SimpleNamespace, encoding: str, name: str) -> None:
    samples = np.stack([make.voice(2.0, 1), make.voice(2.0, 2)], 1)
    kind, scale = ENCODINGS[encoding]
    stored = samples * scale if kind[-2] == "f" else np.round(samples * scale * 0.999) + (128 if kind == "u1" else 0)
    (tmp_path / name).write_bytes(stored.astype(kind).tobytes())
    options = AudioOptions(raw=RawFormat.parse(f"{encoding},16000,2"))
    tolerance = 0.01 if encoding in ("s8", "u8") else 1e-3
    np.testing.assert_allclose(decode(tmp_path / name, options), samples.mean(axis=1), atol=tolerance)
    assert probe(tmp_path / name, options) == pytest.approx(2.0)


def test_raw_telephone_speech(tmp_path: Path, make: SimpleNamespace) -> None:
    for encoding, subtype in (("alaw", "ALAW"), ("mulaw", "ULAW")):
        data = make.encoded(make.voice(2.0, 0, 8000), "AU", subtype, 8000)
        (tmp_path / "a.raw").write_bytes(data[-16_000:])
        found = decode(tmp_path / "a.raw", AudioOptions(raw=RawFormat(encoding, 8000)))
        assert make.lag(found, decode_of(tmp_path, data))[1] > 0.999


def decode_of(folder: Path, data: bytes) -> np.ndarray:
    (folder / "reference").write_bytes(data)
    return decode(folder / "reference")


@pytest.mark.parametrize(
    "text", ["s16le", "s16le,0,1", "s12,16000,1", "s16le,16000,0", "s16le,16000,1,1", "", "s16le,x"]
)
def test_raw_formats_that_mean_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match="raw"):
        RawFormat.parse(text)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("channels", ["mix", "2"])
def test_a_fifo_is_read_to_its_end(tmp_path: Path, make: SimpleNamespace, format: str, channels: str) -> None:
    data = make.encoded(np.stack([make.voice(5.0, 1), make.voice(5.0, 2)], 1), format)
    (tmp_path / "file").write_bytes(data)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    options = AudioOptions(channels=channels)
    np.testing.assert_array_equal(decode(tmp_path / "pipe", options), decode(tmp_path / "file", options))
    writer.join()


def test_standard_input_and_descriptors(tmp_path: Path, make: SimpleNamespace) -> None:
    if not os.path.exists("/dev/stdin"):
        pytest.skip("the system has no /dev/stdin")
    code = "from fun_asr.audio.decode import decode, probe; print(probe('/dev/stdin'), len(decode('/dev/stdin')))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=make.encoded(make.voice(2.0), "WAV"), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"None", b"32000"]


def test_an_empty_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"",))
    writer.start()
    with pytest.raises(AudioDecodeError, match="is empty"):
        decode(tmp_path / "pipe")
    writer.join()


def test_a_pipe_is_not_touched_by_a_probe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert probe(tmp_path / "pipe") is None
