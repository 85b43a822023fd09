"""Standard streams that are closed or full or of another encoding, and full disks: one line that names them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

CLI = [sys.executable, "-m", "fun_asr"]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "talk.wav", 0.2 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    return tmp_path / "talk.wav"


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    (tmp_path / "ids.trn").write_text("caf\u00e9 \u4f60 (a-1)\n", encoding="utf-8")
    return tmp_path / "ids.trn"


def run(*arguments: object, shell: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """A command of fun-asr, with what a shell would be given behind it."""
    command = ["bash", "-c", f'"$@" {shell}', "bash", *CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]


def test_what_nobody_can_read_is_not_printed_in_silence(ids: Path) -> None:
    for arguments in (["wer", "-r", ids, "-h", ids], ["--help"], ["--version"]):
        result = run(*arguments, shell=">&-")
        assert (result.returncode, result.stderr) == (1, "fun-asr: error: standard output: is closed\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_named(ids: Path, unbuffered: str) -> None:
    for arguments in (["wer", "-r", ids, "-h", ids], ["--help"]):
        result = run(*arguments, shell="> /dev/full", env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
        assert (result.returncode, result.stderr) == (1, "fun-asr: error: standard output: No space left on device\n")


@pytest.mark.slow
def test_transcribe_with_closed_streams(tiny_model_dir: Path, recording: Path, tmp_path: Path) -> None:
    model = ["-m", tiny_model_dir, "--device", "cpu", "--compute_type", "float32"]
    printed = run("transcribe", *model, recording).stdout
    assert printed.strip()
    assert run("transcribe", *model, recording, shell="<&- 2>&-").stdout == printed
    lost = run("transcribe", *model, recording, shell=">&-")
    assert (lost.returncode, lost.stderr) == (1, "fun-asr: error: standard output: is closed\n")
    into_files = run("transcribe", *model, recording, "-o", tmp_path / "out", shell="<&- >&-")
    assert (into_files.returncode, into_files.stderr) == (0, "")
    assert (tmp_path / "out" / "talk.txt").read_text() == printed
    # The others are still done.
    nothing = run("transcribe", *model, "-", recording, "-o", tmp_path / "more", shell="<&-")
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("fun-asr: error: standard input: is closed\n")
    assert (tmp_path / "more" / "talk.txt").read_text() == printed
    batch = run("batch", *model, recording, "-o", tmp_path / "batch", "--workers", 0, shell="<&- >&-")
    assert batch.returncode == 0
    assert (tmp_path / "batch" / "talk.txt").read_text() == printed
    in_latin = run("transcribe", *model, recording, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert (in_latin.returncode, in_latin.stdout) == (0, printed)


def test_a_closed_standard_input_is_named(tmp_path: Path) -> None:
    for command in (["format"], ["batch", "-", "-o", tmp_path / "out"]):
        result = run(*command, shell="<&-")
        assert (result.returncode, result.stderr) == (1, "fun-asr: error: standard input: is closed\n")


def test_an_encoding_that_cannot_hold_the_text_is_named(ids: Path) -> None:
    arguments = ["wer", "-r", ids, "-h", ids, "-a", "--bootstrap", "0"]
    latin = run(*arguments, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert latin.returncode == 1
    assert latin.stderr == (
        "fun-asr: error: standard output: is iso8859-1, which has no '\\u4f60'; PYTHONIOENCODING=utf-8 sets what has\n"
    )
    assert "\u4f60" in run(*arguments, env={**os.environ, "PYTHONIOENCODING": "utf-8"}).stdout


@pytest.mark.slow
def test_a_full_disk_names_the_file(tiny_model_dir: Path, recording: Path, tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    model = ["-m", tiny_model_dir, "--device", "cpu", "--compute_type", "float32"]
    for out in (tmp_path / "out", tmp_path / "batch"):
        out.mkdir()
    result = run("transcribe", *model, recording, "-o", tmp_path / "out", preexec_fn=no_room)
    assert (result.returncode, result.stderr) == (1, f"fun-asr: error: {tmp_path}/out/talk.txt: File too large\n")
    assert list((tmp_path / "out").iterdir()) == []
    command = ["batch", *model, recording, "-o", tmp_path / "batch", "--workers", 0, "--report", tmp_path / "r.json"]
    lines = run(*command, preexec_fn=no_room).stderr.splitlines()
    assert lines[0] == f"fun-asr: error: {recording}: cannot be written to {tmp_path}/batch: File too large"
    assert lines[-1] == f"fun-asr: error: {tmp_path}/r.json: File too large"
    assert any("1 failed" in line for line in lines), "the summary is printed first"


def test_scores_are_read_from_pipes(ids: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("words without ids\n")
    result = run("wer", "--bootstrap", "0", shell=f"-r <(cat {ids}) -h <(cat {ids})")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("%CER 0.00 [ 0 / 5, ")
    failed = run("wer", "--format", "trn", "-r", ids, shell=f"-h <(cat {tmp_path}/other)")
    assert failed.returncode == 2
    assert failed.stderr.startswith("fun-asr: error: /dev/fd/")
