"""--channels, --track, --strict and --raw, from the command line to what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fun_asr.audio.decode import decode
from fun_asr.batch.journal import JOURNAL_FILE

DATA = Path(__file__).parents[1] / "data"
RATE = 16_000


@pytest.fixture
def run(run_on_bundled_model):  # type: ignore[no-untyped-def]
    return run_on_bundled_model


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """A call: one speaks on the left, then the other on the right."""
    left, right = decode(DATA / "cv-00010.opus"), decode(DATA / "cv-00014.opus")
    silence = np.zeros(RATE // 2, np.float32)
    one = np.concatenate([left, silence, np.zeros_like(right)])
    other = np.concatenate([np.zeros_like(left), silence, right])
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([one, other], axis=1), RATE)
    return path


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A recording whose end is missing."""
    path = tmp_path / "cut.wav"
    soundfile.write(path, decode(DATA / "cv-00010.opus"), RATE)
    path.write_bytes(path.read_bytes()[:-RATE])
    return path


def test_each_channel_is_transcribed_and_labelled(run, call: Path, tmp_path: Path) -> None:
    result = run("transcribe", "-l", "en", "--channels", "each", "-f", "all", "-o", tmp_path / "out", call)
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads((tmp_path / "out/call.json").read_text())
    said = [segment for segment in found["segments"] if segment["text"]]
    assert [segment["channel"] for segment in said] == [1, 2]
    assert said[0]["start"] <= said[1]["start"]
    starts = [segment["start"] for segment in found["segments"]]
    assert starts == sorted(starts)
    channels = [line.split()[1] for line in (tmp_path / "out/call.ctm").read_text().splitlines()]
    assert channels == sorted(channels) and set(channels) == {"1", "2"}
    assert [line.split()[1] for line in (tmp_path / "out/call.stm").read_text().splitlines()] == ["1", "2"]
    assert "\nChannel 1: " in (tmp_path / "out/call.srt").read_text()
    assert "\n<v Channel 2>" in (tmp_path / "out/call.vtt").read_text()
    assert 'name = "words, channel 2"' in (tmp_path / "out/call.TextGrid").read_text()


def test_one_channel_is_heard_alone_and_a_call_is_noticed(run, call: Path) -> None:
    both = run("transcribe", "-l", "en", call)
    assert "channels 1 and 2 hold different speech; --channels each" in both.stderr
    left, right = (run("transcribe", "-l", "en", "--channels", side, call).stdout for side in ("left", "2"))
    assert left and right and left != right
    assert left.strip() in run("transcribe", "-l", "en", "--channels", "1", call).stdout


def test_what_is_lost_is_said_everywhere_and_strict_refuses(run, cut: Path, tmp_path: Path) -> None:
    result = run("transcribe", "-l", "en", "-f", "json", cut)
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["incomplete"] is True and found["text"]
    (lost,) = found["lost"]
    assert lost["start"] == pytest.approx(found["duration"], abs=0.01)
    assert lost["duration"] == pytest.approx(0.5, abs=0.01)
    assert result.stderr.startswith(f"fun-asr: warning: {cut}: incomplete: 0.50 s at 0:0")

    out, report = tmp_path / "out", tmp_path / "report.json"
    result = run("batch", "--workers", "0", "-f", "jsonl", "-l", "en", "--report", report, "-o", out, cut)
    assert result.exit_code == 0
    assert "1 of them incomplete" in result.stderr
    assert json.loads((out / "cut.jsonl").read_text())["lost"] == found["lost"]
    assert json.loads(report.read_text())["incomplete"] == [{"path": str(cut), "lost": found["lost"]}]
    done = [json.loads(line) for line in (out / JOURNAL_FILE).read_text().splitlines() if '"done"' in line]
    assert [entry["lost"] for entry in done] == [found["lost"]]

    refused = run("transcribe", "--strict", cut)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert str(cut) in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_raw_samples(run, tmp_path: Path) -> None:
    samples = (np.asarray(decode(DATA / "cv-00010.opus")) * 32767).astype("<i2")
    path = tmp_path / "samples.pcm"
    path.write_bytes(samples.tobytes())
    soundfile.write(tmp_path / "samples.wav", samples, 16_000)
    expected = run("transcribe", "-l", "en", tmp_path / "samples.wav").stdout
    assert run("transcribe", "-l", "en", "--raw", "s16le,16000", path).stdout == expected
    assert run("transcribe", "--raw", "s17le,16000", path).exit_code == 2


@pytest.mark.parametrize(("option", "message"), [(["--channels", "middle"], "middle"), (["--track", "0"], "'0'")])
def test_what_no_recording_has_is_wrong_usage(run, call: Path, option: list[str], message: str) -> None:
    result = run("transcribe", *option, call)
    assert result.exit_code == 2
    assert message in result.stderr
