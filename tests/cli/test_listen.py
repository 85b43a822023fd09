"""`fun-asr listen` on standard input: events while it is spoken, the whole at the end."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.vad import SpeechDetector
from fun_asr.cli import main
from fun_asr.cli.listen import _end
from fun_asr.transcriber import Transcriber
from tests.conftest import loudness_detector
from tests.streaming.conftest import ToneRecogniser, spoken

TALK = "one two three four five . . . six seven . . ."
TEXT = "one two three four five six seven"


@pytest.fixture(autouse=True)
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that hears tones."""
    detector = SpeechDetector()
    detector.load_state_dict(loudness_detector())
    transcriber = Transcriber(ToneRecogniser(), detector.eval())
    monkeypatch.setattr("fun_asr.cli.listen.load_transcriber", lambda *_: transcriber)


def pcm(words: str, kind: str = "<i2", channels: int = 1) -> bytes:
    samples = np.repeat(spoken(words)[:, None], channels, axis=1)
    return (samples * 32767).astype(kind).tobytes() if kind.endswith("i2") else samples.astype(kind).tobytes()


def wav(words: str, rate: int = SAMPLE_RATE) -> bytes:
    file = io.BytesIO()
    samples = spoken(words)
    at_rate = np.interp(np.arange(0, len(samples), SAMPLE_RATE / rate), np.arange(len(samples)), samples)
    soundfile.write(file, at_rate, rate, format="wav")
    return file.getvalue()


def listen(*arguments: str, sound: bytes = b"", status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["listen", *arguments], input=sound)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_without_a_terminal_events_are_lines_of_json(rate: int) -> None:
    events = [json.loads(line) for line in listen("-", sound=wav(TALK, rate)).stdout.splitlines()]
    assert [event["text"] for event in events if event["event"] == "final"] == ["one two three four five", "six seven"]
    final = next(event for event in events if event["event"] == "final")
    assert final["segments"][0]["words"][0]["start"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("raw", "sound"),
    [
        ("s16le,16000", pcm(TALK)),
        ("s16be,16000,2", pcm(TALK, ">i2", 2)),
        ("f32le,16000", pcm(TALK, "<f4")),
    ],
)
def test_raw_samples_are_read_as_they_come(raw: str, sound: bytes) -> None:
    assert listen("-", "--raw", raw, "-f", "txt", sound=sound).stdout == f"{TEXT}\n"


def test_the_whole_is_written_in_other_formats(tmp_path: Path) -> None:
    srt = listen("-", "-f", "srt", sound=wav(TALK)).stdout
    assert srt.startswith("1\n00:00:00,") and "six seven" in srt
    found = listen("-", "-f", "json", "-o", str(tmp_path / "talk.json"), sound=wav(TALK))
    assert json.loads((tmp_path / "talk.json").read_text())["text"] == TEXT
    assert json.loads(found.stdout.splitlines()[-1])["event"] == "final"


@pytest.mark.parametrize(
    ("arguments", "sound", "status", "message"),
    [
        (["-"], b"", 1, "standard input: is no audio"),
        (["-"], b"no sound at all" * 50, 1, "standard input: is no audio"),
        (["talk.wav"], b"", 2, "transcribe reads files"),
        (["--raw", "s16le,16000"], b"", 2, "standard input"),
        (["-", "--clip_timestamps", "0,30"], b"", 2, "are of recordings"),
        (["-", "--channels", "left"], b"", 2, "are of recordings"),
        (["-", "-o", "/dev/null/x.txt"], wav("one"), 1, "/dev/null/x.txt"),
    ],
)
def test_what_cannot_be_heard_is_one_line(arguments: list[str], sound: bytes, status: int, message: str) -> None:
    result = listen(*arguments, sound=sound, status=status)
    assert message in result.stderr and "Traceback" not in result.output


def test_the_end_of_a_long_line_fits_the_terminal() -> None:
    assert _end("one two three", 20) == "one two three"
    assert _end("one two three", 5) == "three"
    assert _end("大家好", 5) == "家好"


PROGRAM = """
import sys
from tests.cli.test_listen import tones_for
import fun_asr.cli.listen as listen
listen.load_transcriber = lambda *_: tones_for()
from fun_asr.cli import main
main(["listen", "-", "-o", sys.argv[1]])
"""


def tones_for() -> Transcriber:
    detector = SpeechDetector()
    detector.load_state_dict(loudness_detector())
    return Transcriber(ToneRecogniser(), detector.eval())


def test_ctrl_c_writes_what_was_heard_and_a_terminal_is_rewritten(tmp_path: Path) -> None:
    output = tmp_path / "heard.txt"
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(output)], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs
    )
    assert program.stdin is not None
    sound = wav("one two three four five . . . six seven")[:-2000]
    os.set_blocking(ours, False)
    shown = b""
    for number in range(1200):
        # As a microphone's, somewhat faster.
        program.stdin.write(sound[number * 3200 : (number + 1) * 3200])
        program.stdin.flush()
        time.sleep(0.02)
        with contextlib.suppress(BlockingIOError):
            shown += os.read(ours, 1 << 16)
        if b"\x1b[Kone two three four five\r\n" in shown and number * 3200 > len(sound):
            break
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    assert program.wait(20) == 0, shown
    assert b"\r\x1b[Kone" in shown and b"\x1b[2m" in shown
    assert output.read_text().startswith("one two three four five six")
