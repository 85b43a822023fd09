"""`fun-asr batch` as its operator sees it: shared among runs, looked at beforehand, watched, ended and given up."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fun_asr.batch import status
from fun_asr.batch.journal import JOURNAL_FILE

RATE = 16_000


@pytest.fixture
def run(run_on_tiny_model):  # type: ignore[no-untyped-def]
    batch = run_on_tiny_model("batch")
    return lambda *arguments, **options: batch("--workers", "0", "--threads", "1", *arguments, **options)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(7):
        noise = 0.2 * np.random.default_rng(number).standard_normal(RATE // 2)
        soundfile.write(tmp_path / "in" / f"{number}.wav", noise, RATE)
    return tmp_path / "in"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.txt"))


def test_runs_that_share_the_recordings_do_each_once_and_may_share_the_folder(
    run, recordings: Path, tmp_path: Path
) -> None:
    (recordings / "bad.wav").write_text("no audio")
    counts = []
    for number in (1, 2, 3):
        before = names(tmp_path / "out")
        result = run(recordings, "-o", tmp_path / "out", "--shard", f"{number}/3")
        counts.append(len(names(tmp_path / "out")) - len(before))
        assert result.exit_code == ("bad.wav" in result.stderr)
    assert (sorted(counts), names(tmp_path / "out")) == ([2, 2, 3], [f"{n}.txt" for n in range(7)])
    run(recordings, "-o", tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "out" / name).exists()
    again = run(recordings, "-o", tmp_path / "out", "--shard", "2/3")
    assert "0 transcribed" in again.stderr


def test_parts_of_a_recording_go_to_one_run(run, recordings: Path, tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": f"in/{n}.wav", "offset": offset, "duration": 0.2} for n in range(3) for offset in (0, 0.2)
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run(tmp_path / "list.jsonl", "-o", tmp_path / "out", "--shard", "1/3")
    assert names(tmp_path / "out") == ["0.txt", "0@0.2.txt"]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_wrong_usage(run, recordings: Path, tmp_path: Path, shard: str) -> None:
    result = run(recordings, "-o", tmp_path / "out", "--shard", shard)
    assert result.exit_code == 2
    assert "is not I/N with a number I from 1 to N" in result.stderr


def test_a_dry_run_lists_what_a_run_then_does_and_leaves_no_trace(run, recordings: Path, tmp_path: Path) -> None:
    arguments = (recordings, "-o", tmp_path / "out", "-f", "txt,srt")
    first = run(*arguments, "--dry_run")
    assert (first.exit_code, first.stdout.count("\n")) == (0, 7)
    assert first.stdout.splitlines()[0].split("\t") == [
        str(recordings / "0.wav"),
        str(tmp_path / "out" / "0.txt"),
        str(tmp_path / "out" / "0.srt"),
    ]
    assert first.stderr == "fun-asr: 7 would be transcribed, 0 done before, 0 failed, of 7\n"
    assert not (tmp_path / "out").exists()
    run(*arguments)
    (recordings / "3.wav").write_text("no audio")
    journal = (tmp_path / "out" / JOURNAL_FILE).read_bytes()
    second = run(*arguments, "--dry_run", "--check_files")
    assert (second.exit_code, second.stdout) == (1, "")
    assert "3.wav: " in second.stderr and "0 would be transcribed, 6 done before, 1 failed, of 7" in second.stderr
    assert run(*arguments, "--dry_run", "--overwrite").stdout.count("\n") == 7
    assert (tmp_path / "out" / JOURNAL_FILE).read_bytes() == journal


def test_the_status_file_counts_as_the_report_does(run, recordings: Path, tmp_path: Path) -> None:
    (recordings / "bad.wav").write_text("no audio")
    run(recordings / "0.wav", "-o", tmp_path / "out")
    run(recordings, "-o", tmp_path / "out", "--status", tmp_path / "status.json", "--report", tmp_path / "report.json")
    found, report = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("status", "report"))
    for key in ("status", "total", "done_before", "transcribed", "failed", "left", "audio_seconds"):
        assert found[key] == report[key]
    assert (found["status"], found["transcribed"], found["done_before"], found["failed"]) == ("finished", 6, 1, 1)


def test_the_status_file_of_prometheus_has_its_form(run, recordings: Path, tmp_path: Path) -> None:
    run(recordings, "-o", tmp_path / "out", "--status", tmp_path / "batch.prom")
    lines = (tmp_path / "batch.prom").read_text().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['fun_asr_batch_recordings{state="transcribed"}'] == "7"
    assert (values["fun_asr_batch_running"], values["fun_asr_batch_succeeded"]) == ("0", "1")
    # Each metric is announced, once, before its values.
    kinds = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert Counter(kinds) == Counter(dict.fromkeys((name.partition("{")[0] for name in values), 1))


def test_the_status_moves_while_a_recording_takes_long_and_its_failure_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "INTERVAL_SECONDS", 0.02)
    warned: list[str] = []
    with status.StatusFile(tmp_path / "s.json", None, warned.append):  # type: ignore[arg-type]
        first = json.loads((tmp_path / "s.json").read_text())
        deadline = time.monotonic() + 30
        while json.loads((tmp_path / "s.json").read_text())["updated"] == first["updated"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert first["status"] == "running"
    assert json.loads((tmp_path / "s.json").read_text())["status"] == "failed"
    (tmp_path / "file").touch()
    with status.StatusFile(tmp_path / "file" / "s.json", None, warned.append):  # type: ignore[arg-type]
        time.sleep(0.1)
    assert len(warned) == 1 and warned[0].startswith(f"{tmp_path / 'file' / 's.json'}: cannot be written to: ")


def test_a_timeout_needs_a_process_that_can_be_ended(run, recordings: Path, tmp_path: Path) -> None:
    result = run(recordings, "-o", tmp_path / "out", "--timeout", "60")
    assert result.exit_code == 2
    assert "--timeout needs worker processes" in result.stderr


@pytest.mark.parametrize("name", ["cv-00001.opus", "noise.wav", "noise.flac", "noise.mp3"])
def test_a_recording_on_standard_input_is_no_list(run, tmp_path: Path, name: str) -> None:
    if name.startswith("noise"):
        soundfile.write(tmp_path / name, 0.2 * np.random.default_rng(0).standard_normal(RATE), RATE)
    else:
        (tmp_path / name).write_bytes((Path(__file__).parents[1] / "data" / name).read_bytes())
    result = run("-", "-o", tmp_path / "out", stdin=(tmp_path / name).read_bytes())
    assert result.exit_code == 1
    message = "standard input: holds no list; batch - takes paths, one a line, and transcribe - the recording itself"
    assert result.stderr.splitlines()[0] == f"fun-asr: error: {message}"


def test_a_recording_under_two_paths_is_done_once(run, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(recordings, target_is_directory=True)
    result = run(recordings, tmp_path / "link" / "0.wav", recordings / ".." / "in" / "1.wav", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "2 given more than once, taken once" in result.stderr
    assert names(tmp_path / "out") == [f"{n}.txt" for n in range(7)]


PROGRAM = """
import sys
from fun_asr.batch import engine
from fun_asr.cli import main

def transcribe(self, paths, language):
    print("at work", flush=True)
    import time
    time.sleep(600)
    yield

engine._LoadedTranscriber.transcribe = transcribe
main()
"""


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGTERM, "terminated", 143), (signal.SIGINT, "interrupted", 130)]
)
def test_a_signal_ends_a_batch_with_a_report_and_its_own_status(
    recordings: Path, tiny_model_dir: Path, tmp_path: Path, number: int, word: str, code: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, "batch", recordings, "-o", tmp_path / "out", "--model", tiny_model_dir]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "0", "--report", str(tmp_path / "report.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "at work\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"fun-asr: {word}, 7 left; the same command goes on from here\n" in errors
    assert json.loads((tmp_path / "report.json").read_text())["status"] == word
