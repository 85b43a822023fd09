"""Decoding, checked against tones and noise that soundfile and PyAV wrote: formats, rates, lengths, damage, memory."""

import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from fun_asr.audio.decode import SAMPLE_RATE, decode, probe, stream
from fun_asr.audio.options import AudioOptions
from fun_asr.errors import AudioDecodeError, FunASRError

Samples = npt.NDArray[np.float32]


def tone(hertz: float, rate: int, seconds: float = 2.0, amplitude: float = 0.5) -> Samples:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noisy_tone(rate: int, seconds: float) -> Samples:
    noise = np.random.default_rng(0).standard_normal(round(seconds * rate))
    return (tone(440, rate, seconds, 0.3) + 0.05 * noise).astype(np.float32)


def peak(samples: Samples) -> tuple[float, float]:
    """Frequency in Hz and amplitude of the strongest sine in the middle second."""
    middle = samples[len(samples) // 2 - SAMPLE_RATE // 2 :][:SAMPLE_RATE]
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window)) * 2 / window.sum()
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(middle), float(spectrum.max())


def write_av(
    path: Path,
    samples: Samples | None,
    codec: str = "aac",
    video: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write mono 48 kHz audio, a little video, or both."""
    with av.open(str(path), "w", options=options or {}) as container:
        if video:
            picture = container.add_stream(video, rate=10)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        if samples is not None:
            audio = container.add_stream(codec, rate=48_000)
            audio.layout = "mono"
        if video:
            for index in range(40):
                image = av.VideoFrame.from_ndarray(np.full((96, 64), 4 * index, np.uint8), format="yuv420p")
                image.pts = index
                container.mux(picture.encode(image))
            container.mux(picture.encode())
        if samples is not None:
            context = audio.codec_context
            context.open(strict=False)
            resampler = av.AudioResampler(context.format, "mono", 48_000, context.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    return path


def refusal(path: Path) -> str:
    """The one-line message with which a file is refused where nothing may be missing."""
    with pytest.raises(AudioDecodeError) as caught:
        decode(path, AudioOptions(strict=True))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1 / 128),
        ("a.wav", "PCM_16", 1 / 32768),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 0.03),
        ("a.flac", "PCM_16", 1 / 32768),
        ("a.flac", "PCM_24", 1e-6),
        ("a.aiff", "PCM_16", 1 / 32768),
        ("a.caf", "PCM_16", 1 / 32768),
        ("a.w64", "PCM_24", 1e-6),
        ("a.rf64", "PCM_16", 1 / 32768),
        ("a.au", "FLOAT", 0),
    ],
)
def test_samples_survive_in_lossless_formats(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    written = noisy_tone(SAMPLE_RATE, 1.5)
    soundfile.write(tmp_path / name, written, SAMPLE_RATE, subtype=subtype)
    read = decode(tmp_path / name)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, written, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000])
def test_tone_and_length_survive_every_rate(tmp_path: Path, rate: int) -> None:
    samples = tone(1000, rate, seconds=2.0)[:-7]
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="PCM_24")
    read = decode(tmp_path / "a.wav")
    assert abs(len(read) - len(samples) * SAMPLE_RATE / rate) <= 1
    hertz, amplitude = peak(read)
    assert hertz == pytest.approx(1000, abs=1)
    assert amplitude == pytest.approx(0.5, rel=0.005)
    # In phase too: resampling must not delay the words.
    expected = tone(1000, SAMPLE_RATE)[: len(read)]
    np.testing.assert_allclose(read[500:-500], expected[500:-500], atol=2e-3)


@pytest.mark.parametrize(("hertz", "rate"), [(10_000, 48_000), (9_000, 44_100), (60_000, 192_000)])
def test_tone_above_the_new_band_vanishes(tmp_path: Path, hertz: float, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(hertz, rate), rate, subtype="FLOAT")
    assert np.abs(decode(tmp_path / "a.wav")[800:-800]).max() < 1e-4


LOSSY: dict[str, Callable[[Path, Samples], object]] = {
    "a.mp3": lambda path, samples: soundfile.write(path, samples, 48_000),
    "a.ogg": lambda path, samples: soundfile.write(path, samples, 48_000, subtype="VORBIS"),
    "a.opus": lambda path, samples: soundfile.write(path, samples, 48_000, format="OGG", subtype="OPUS"),
    "a.m4a": lambda path, samples: write_av(path, samples, "aac"),
    "a.webm": lambda path, samples: write_av(path, samples, "libopus"),
    "a.mka": lambda path, samples: write_av(path, samples, "flac"),
    "v.mp4": lambda path, samples: write_av(path, samples, "aac", "mpeg4"),
    "v.mov": lambda path, samples: write_av(path, samples, "pcm_s16le", "mpeg4"),
    "v.mkv": lambda path, samples: write_av(path, samples, "libopus", "mpeg4"),
    "v.webm": lambda path, samples: write_av(path, samples, "libopus", "libvpx"),
    "v.ts": lambda path, samples: write_av(path, samples, "aac", "mpeg2video"),
    "v.avi": lambda path, samples: write_av(path, samples, "pcm_s16le", "mpeg4"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_tone_and_length_survive_compressed_audio_and_video(tmp_path: Path, name: str) -> None:
    LOSSY[name](tmp_path / name, tone(1000, 48_000, seconds=4.0))
    read = decode(tmp_path / name)
    # AAC pads its last frame, and a transport stream has no place for the encoder's delay.
    assert -1 <= len(read) - 4 * SAMPLE_RATE <= 2048 / 48_000 * SAMPLE_RATE
    hertz, amplitude = peak(read)
    assert hertz == pytest.approx(1000, abs=1)
    assert amplitude == pytest.approx(0.5, rel=0.05)
    assert probe(tmp_path / name) == pytest.approx(4.0, abs=0.1)


def test_content_decides_and_the_name_does_not_matter(tmp_path: Path) -> None:
    samples = tone(300, SAMPLE_RATE)
    for name in ("call.raw", "call", "http:call.mp3", "%d.wav", os.fsdecode(b"caf\xe9.wav")):
        with open(tmp_path / name, "wb") as file:
            soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        np.testing.assert_allclose(decode(tmp_path / name), samples, atol=1 / 32768)
    odd = tmp_path / "http:call.m4a"
    write_av(tmp_path / "a.m4a", samples).rename(odd)
    assert len(decode(odd)) > 0


@pytest.mark.parametrize("channels", [2, 3, 6, 16])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (5000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_allclose(decode(tmp_path / "a.wav"), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("codec", "format"), [("pcm_s16le", "s16"), ("pcm_u8", "u8"), ("pcm_f32le", "flt")])
def test_channels_are_averaged_by_pyav(tmp_path: Path, codec: str, format: str) -> None:
    left, right = tone(500, SAMPLE_RATE, amplitude=0.8), tone(500, SAMPLE_RATE, amplitude=0.2)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        audio = container.add_stream(codec, rate=SAMPLE_RATE)
        audio.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.stack([left, right]), format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        for part in av.AudioResampler(format, "stereo", SAMPLE_RATE).resample(frame):
            container.mux(audio.encode(part))
        container.mux(audio.encode())
    np.testing.assert_allclose(decode(tmp_path / "a.mkv"), (left + right) / 2, atol=1 / 128)


def test_the_default_audio_stream_of_a_video_is_taken(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        tracks = [container.add_stream("pcm_s16le", rate=SAMPLE_RATE) for _ in range(2)]
        for track in tracks:
            track.layout = "mono"
        tracks[0].disposition = av.stream.Disposition(0)
        tracks[1].disposition = av.stream.Disposition.default
        for track, hertz in zip(tracks, (300, 700), strict=True):
            values = (tone(hertz, SAMPLE_RATE) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux(track.encode(frame))
            container.mux(track.encode())
    assert peak(decode(tmp_path / "v.mkv"))[0] == pytest.approx(700, abs=1)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("block_seconds", [0.013, 1.0, 7.3, 30.0])
def test_blocks_join_to_what_decode_returns(tmp_path: Path, rate: int, block_seconds: float) -> None:
    samples = noisy_tone(rate, 13.37)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, samples], 1), rate, subtype="FLOAT")
    blocks = list(stream(tmp_path / "a.wav", block_seconds))
    assert {len(block) for block in blocks[:-1]} <= {round(block_seconds * SAMPLE_RATE)}
    whole = decode(tmp_path / "a.wav")
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_allclose(whole, soxr.resample(samples, rate, SAMPLE_RATE), atol=1e-6)


def test_values_stay_within_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 3 * tone(400, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(decode(tmp_path / "a.wav")).max() == 1.0


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    minute = np.tile(noisy_tone(48_000, 60)[:, None], 2)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48_000, 2, "PCM_16") as file:
        for _ in range(10):
            file.write(minute)
    tracemalloc.start()
    total = sum(len(block) for block in stream(tmp_path / "a.wav"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 600 * SAMPLE_RATE
    # A block is 1.9 MB; the whole file would be 38 MB at 16 kHz and 230 MB as read.
    assert peak_bytes < 12e6


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_wave_from_a_pipe_is_read_to_its_end(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(300, SAMPLE_RATE), SAMPLE_RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = length.to_bytes(4, "little")
    path.write_bytes(data)
    np.testing.assert_allclose(decode(path), tone(300, SAMPLE_RATE), atol=1 / 32768)


def test_flac_from_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(300, SAMPLE_RATE), SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert len(decode(path)) == 2 * SAMPLE_RATE


def test_ogg_recorder_that_was_stopped_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noisy_tone(SAMPLE_RATE, 20), SAMPLE_RATE, subtype="VORBIS")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    assert len(decode(path)) > 10 * SAMPLE_RATE


def test_live_webm_without_a_length_is_read(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.webm", tone(300, 48_000), "libopus", options={"live": "1"})
    assert len(decode(path)) == pytest.approx(2 * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize("live", ["0", "1"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_webm_damaged_inside_is_refused(tmp_path: Path, live: str, place: float) -> None:
    path = write_av(tmp_path / "a.webm", noisy_tone(48_000, 20), "libopus", options={"live": live})
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("missing", [1, 50, 300])
def test_webm_of_a_recorder_that_was_stopped_is_read(tmp_path: Path, missing: int) -> None:
    path = write_av(tmp_path / "a.webm", noisy_tone(48_000, 20), "libopus", options={"live": "1"})
    path.write_bytes(path.read_bytes()[:-missing])
    assert len(decode(path)) > 19 * SAMPLE_RATE


def test_finished_webm_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.webm", noisy_tone(48_000, 20), "libopus")
    path.write_bytes(path.read_bytes()[:-300])
    assert "cut short" in refusal(path)


def test_webm_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.webm", tone(300, 48_000), "libopus")
    path.write_bytes(path.read_bytes() + b"padding" * 100)
    assert len(decode(path)) == pytest.approx(2 * SAMPLE_RATE, abs=1)


def test_missing_file_directory_and_empty_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.wav") == "No such file or directory"
    assert "is a directory" in refusal(tmp_path)
    (tmp_path / "empty.wav").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.wav")
    assert "neither a file nor a pipe" in refusal(Path("/dev/null"))


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.wav"
    soundfile.write(path, tone(300, SAMPLE_RATE), SAMPLE_RATE)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read everything

        def denied(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("fun_asr.audio.source.open", denied, raising=False)
    assert refusal(path) == "Permission denied"


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.caf"])
def test_header_without_samples(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, np.zeros(0, np.float32), SAMPLE_RATE)
    assert "no audio samples" in refusal(tmp_path / name)


@pytest.mark.timeout(30)
def test_what_is_not_audio(tmp_path: Path) -> None:
    contents = {
        "notes.txt": b"hello, this is text\n" * 100,
        "fake.mp3": np.random.default_rng(1).bytes(60_000),
        "one.wav": b"R",
        "photo.png": b"\x89PNG\r\n\x1a\n" + bytes(200),
        # A playlist would make libav fetch the address.
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert "not audio or video" in refusal(tmp_path / name)
        assert probe(tmp_path / name) is None


def test_video_without_audio(tmp_path: Path) -> None:
    assert "no audio stream" in refusal(write_av(tmp_path / "silent.mp4", None, video="mpeg4"))
    assert probe(tmp_path / "silent.mp4") is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 20_000.0])
def test_samples_that_are_no_audio_are_refused(tmp_path: Path, bad: float) -> None:
    samples = tone(300, SAMPLE_RATE)
    samples[12_345] = bad
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    assert "NaN, infinite or far outside" in refusal(tmp_path / "a.wav")


PCM = ["a.wav", "a.aiff", "a.au", "a.caf", "a.w64", "a.rf64"]
CHECKED = [name for name in LOSSY if name not in ("v.ts", "v.avi")]


def write_any(path: Path) -> bytes:
    samples = noisy_tone(48_000, 8.0)
    if path.name in LOSSY:
        LOSSY[path.name](path, samples)
    else:
        soundfile.write(path, samples, 48_000)
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.93])
@pytest.mark.parametrize("name", [*PCM, "a.flac", *CHECKED])
def test_half_a_recording_is_never_returned(tmp_path: Path, name: str, kept: float) -> None:
    data = write_any(tmp_path / name)
    (tmp_path / name).write_bytes(data[: round(len(data) * kept)])
    assert refusal(tmp_path / name)


def test_truncated_mp4_whose_index_comes_first(tmp_path: Path) -> None:
    path = write_av(tmp_path / "a.m4a", noisy_tone(48_000, 8.0), options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.opus", "a.m4a", "v.mp4"])
def test_damage_in_the_middle_is_refused(tmp_path: Path, name: str) -> None:
    data = bytearray(write_any(tmp_path / name))
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / name).write_bytes(data)
    assert "damaged" in refusal(tmp_path / name)


def test_nothing_is_written_to_the_terminal(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.mp3", "a.ogg", "v.mp4")]
    for path in paths:
        data = bytearray(write_any(path))
        data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
        path.write_bytes(data)
    code = (
        "import sys; from fun_asr.audio.decode import decode, probe\n"
        "for path in sys.argv[1:]:\n"
        "    probe(path)\n"
        "    try: decode(path)\n"
        "    except Exception: pass\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", code, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_error_is_one_of_ours_and_crosses_processes() -> None:
    error = AudioDecodeError("a.wav", "two\nlines")
    assert isinstance(error, FunASRError)
    assert str(pickle.loads(pickle.dumps(error))) == "a.wav: two lines"


def test_a_stream_left_early_closes_its_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(300, SAMPLE_RATE, 90), SAMPLE_RATE)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    blocks = stream(tmp_path / "a.wav", 1.0)
    next(blocks)
    blocks.close()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
