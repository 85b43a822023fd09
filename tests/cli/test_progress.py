"""What is said while a command works: progress, its time left, levels, and the log file."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fun_asr.cli import progress
from fun_asr.cli.lengths import Lengths
from fun_asr.cli.progress import Pace, clock

Run = Callable[..., object]


@pytest.fixture
def run(run_on_tiny_model):
    return run_on_tiny_model("transcribe")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * 16_000)
    soundfile.write(tmp_path / "a.wav", noise.astype(np.float32), 16_000)
    return tmp_path / "a.wav"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_right_from_the_first_tenth_on() -> None:
    """A recording of 1,000 s: 20 s to read ahead, then 10 s for each 100 s of audio."""
    time = Clock()
    pace = Pace(time)
    assert pace.left(1000) is None
    time.now += 20 + 10
    pace.add(100)
    for tenth in range(2, 10):
        time.now += 10
        pace.add(100)
        assert pace.left(1000) == pytest.approx(100 - 10 * tenth, abs=1)
    time.now += 4
    assert pace.left(1000) == pytest.approx(6, abs=1), "it counts down between two reports"
    assert pace.rtfx == pytest.approx(900 / 114)


def test_lengths_come_from_headers_or_else_from_bytes(tmp_path: Path) -> None:
    second = np.zeros(16_000, np.float32)
    sizes = {}
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.tile(second, number + 1), 16_000)
        sizes[str(path)] = path.stat().st_size
    lengths = Lengths(sizes)
    lengths._thread.join()
    assert lengths.total == pytest.approx(1 + 2 + 3 + 4)
    lengths.learn(str(tmp_path / "3.wav"), 0.0)
    assert lengths.total == pytest.approx(1 + 2 + 3)
    # Of one that says nothing of its length, what its bytes make likely.
    unknown = tmp_path / "x.wav"
    unknown.write_bytes(bytes(sizes[str(tmp_path / "1.wav")]))
    guessed = Lengths({str(tmp_path / "1.wav"): sizes[str(tmp_path / "1.wav")], str(unknown): unknown.stat().st_size})
    guessed._thread.join()
    assert guessed.total == pytest.approx(4)
    piped = Lengths({str(tmp_path / "1.wav"): 32_044, "-": None})
    piped._thread.join()
    assert piped.total is None


def test_hours_where_there_are_any() -> None:
    assert [clock(seconds) for seconds in (0, 62.4, 3602)] == ["0:00", "1:02", "1:00:02"]


def test_a_line_now_and_then_where_there_is_no_terminal(run, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    result = run(sound, "--log_level", "info")
    lines = [line for line in result.stderr.splitlines() if " of audio" in line]
    assert lines
    pattern = r"fun-asr: 0:\d\d of (\?|0:20) of audio, RTFx [\d.]+, (\?|0:\d\d) left"
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    for silent in (["--quiet"], ["--log_level", "warning"]):
        assert run(sound, *silent).stderr == ""


def test_quiet_keeps_errors(run, sound: Path, tmp_path: Path) -> None:
    result = run(sound, tmp_path / "missing.wav", "-q")
    assert result.exit_code == 1
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" error"]


def test_the_log_file_has_times_levels_and_each_recording(run, sound: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.jsonl"
    broken = tmp_path / "broken.wav"
    broken.write_text("not audio")
    for _ in range(2):
        assert run(sound, broken, "-q", "--log_file", log).exit_code == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"]) for line in lines)
    done = [line for line in lines if line["message"] == "transcribed"]
    assert [(line["level"], line["path"], line["duration"]) for line in done] == [("info", str(sound), 20.0)] * 2
    errors = [line for line in lines if line["level"] == "error"]
    assert [line["path"] for line in errors] == [str(broken)] * 2
    assert run(sound, "--log_file", tmp_path / "errors.jsonl", "--log_level", "error").exit_code == 0
    assert (tmp_path / "errors.jsonl").read_text() == ""


def test_a_log_file_that_cannot_be_written_is_named(run, sound: Path) -> None:
    result = run(sound, "--log_file", sound / "x.jsonl")
    assert result.exit_code == 1
    assert str(sound) in result.stderr and len(result.stderr.splitlines()) == 1


def test_debug_level_says_what_the_model_computes_with(run, sound: Path) -> None:
    assert "fun_asr on cpu: encoder float32" in run(sound, "--log_level", "debug").stderr
    assert "float32" not in run(sound).stderr


def test_segments_are_printed_as_they_are_recognised(run, sound: Path) -> None:
    result = run(sound, "--verbose", "-f", "json")
    segments = json.loads(result.stdout)["segments"]
    shown = re.findall(r"^\[(\d\d):(\d\d\.\d{3}) --> \d\d:\d\d\.\d{3}\] (.*)$", result.stderr, re.MULTILINE)
    assert segments and [text for _, _, text in shown] == [segment["text"] for segment in segments]
    assert [60 * int(minutes) + float(seconds) for minutes, seconds, _ in shown] == pytest.approx(
        [segment["start"] for segment in segments], abs=0.002
    )


def test_batch_counts_audio_within_recordings(
    run_on_tiny_model, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[float] = []
    original = progress.BatchProgress.progressed
    monkeypatch.setattr(
        progress.BatchProgress, "progressed", lambda self, more: (seconds.append(more), original(self, more))
    )
    for workers in ("0", "1"):
        seconds.clear()
        result = run_on_tiny_model("batch")(
            sound, "-o", tmp_path / f"out{workers}", "--workers", workers, "--batch_size", "1"
        )
        assert result.exit_code == 0, result.output
        assert sum(seconds) == pytest.approx(20, abs=0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize("columns", [100, 0], ids=["wide", "of_unknown_width"])
def test_a_bar_on_a_terminal(tiny_model_dir: Path, sound: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                shown.extend(part)
        except OSError:
            pass  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "fun_asr", "transcribe", "--model", str(tiny_model_dir), str(sound)]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, check=True, timeout=120)
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.stdout.strip()
    text = shown.decode()
    assert "100%|" in text and "0:20 of 0:20 of audio, RTFx " in text
