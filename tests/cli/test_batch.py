"""`fun-asr batch` as its user sees it: the output tree, messages, the report, exit status, and kill -9."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fun_asr.batch import shards
from fun_asr.batch.journal import JOURNAL_FILE

RATE = 16_000
FORMATS = (".wav", ".flac", ".ogg", ".mp3")


def write(path: Path, seconds: float = 0.5, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)), RATE)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != JOURNAL_FILE
    }


@pytest.fixture
def run(run_on_tiny_model):  # type: ignore[no-untyped-def]
    batch = run_on_tiny_model("batch")
    return lambda *arguments, **options: batch("--workers", "0", "--threads", "1", *arguments, **options)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(("talk.wav", "talk.mp3", "sub/one.flac", "sub/deep/two.ogg")):
        write(tmp_path / "in" / name, 0.5 + number / 4, number)
    return tmp_path / "in"


def test_the_tree_is_mirrored_in_every_format(run, tree: Path, tmp_path: Path) -> None:
    result = run(tree, "-o", tmp_path / "out", "-f", "txt,srt", "-f", "jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(
        r"fun-asr: 4 transcribed \(0\.00 h of audio, RTFx [\d.]+\), 0 done before, 0 failed, of 4\n", result.stderr
    )
    names = ("talk.wav", "talk.mp3", "sub/one", "sub/deep/two")
    assert files(tmp_path / "out").keys() == {f"{name}.{kind}" for name in names for kind in ("txt", "srt", "jsonl")}
    assert json.loads((tmp_path / "out/sub/one.jsonl").read_text())["duration"] == 1.0


def test_transcripts_are_those_of_transcribe(run, run_on_tiny_model, tree: Path, tmp_path: Path) -> None:
    assert run(tree, "-o", tmp_path / "out", "-f", "all").exit_code == 0
    assert run_on_tiny_model("transcribe")(tree, "-o", tmp_path / "plain", "-f", "all").exit_code == 0
    assert len(files(tmp_path / "out")) == 4 * 9
    assert files(tmp_path / "out") == files(tmp_path / "plain")


def test_the_second_run_does_nothing_and_says_so(run, tree: Path, tmp_path: Path) -> None:
    run(tree, "-o", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.txt")}
    result = run(tree, "-o", tmp_path / "out", "--resume")
    assert result.exit_code == 0
    assert "4 of 4 were done before" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.txt")} == before
    assert "4 transcribed" in run(tree, "-o", tmp_path / "out", "--overwrite").stderr
    assert "4 transcribed" in run(tree, "-o", tmp_path / "out", "--decoding", "ctc").stderr


def test_json_and_the_journal_say_what_transcribed(run, tree: Path, tmp_path: Path) -> None:
    run(tree, "-o", tmp_path / "out", "-f", "json", "--compute_type", "float32")
    records = [json.loads(line) for line in (tmp_path / "out" / JOURNAL_FILE).read_text().splitlines()]
    (noted,) = (record["model"] for record in records if record["event"] == "model")
    assert noted["family"] == "fun_asr"
    assert noted["arithmetic"] == {"encoder": "float32", "ctc": "float32", "decoder": "float32"}
    assert json.loads((tmp_path / "out/sub/one.json").read_text())["model"] == noted


def test_another_punctuation_model_is_another_transcript(
    run, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "punctuation"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"trained again")
    run(tree, "-o", tmp_path / "out")
    assert "4 done before" in run(tree, "-o", tmp_path / "out").stderr
    monkeypatch.setattr("fun_asr.batch.engine.BUNDLED_PUNCTUATION", other)
    assert "4 transcribed" in run(tree, "-o", tmp_path / "out").stderr


def test_other_hotwords_are_another_transcript(run, tree: Path, tmp_path: Path) -> None:
    """By what the file says, not by its name."""
    names = tmp_path / "names"
    names.write_text("Ada\n")
    assert "4 transcribed" in run(tree, "-o", tmp_path / "out", "--hotwords", names).stderr
    assert "4 of 4 were done before" in run(tree, "-o", tmp_path / "out", "--hotwords", "Ada").stderr
    names.write_text("Ada\t2\n")
    assert "4 transcribed" in run(tree, "-o", tmp_path / "out", "--hotwords", names).stderr


def test_failures_are_named_reported_and_counted(run, tree: Path, tmp_path: Path) -> None:
    (tree / "bad.wav").write_text("no audio")
    (tree / "empty.wav").touch()
    name = os.fsdecode(b"\xe9\nodd.wav")
    (tree / name).symlink_to("nowhere")
    result = run(tree, tmp_path / "missing", "-o", tmp_path / "out", "--report", tmp_path / "report.json")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("fun-asr: error: ")]
    assert len(errors) == 4
    assert "4 transcribed" in result.stderr and "4 failed, of 8" in result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["status"], report["transcribed"], report["failed"]) == ("finished", 4, 4)
    assert {failure["path"] for failure in report["failures"]} == {
        str(tree / "bad.wav"),
        str(tree / "empty.wav"),
        str(tree / name),
        str(tmp_path / "missing"),
    }
    assert {failure["cause"] for failure in report["failures"]} >= {"No such file or directory", "is empty (0 bytes)"}


@pytest.mark.parametrize("option", [["--fail_fast"], ["--max_failures", "1"], ["--check_files", "--fail_fast"]])
def test_a_run_that_stops_early_says_what_is_left(run, tree: Path, tmp_path: Path, option: list[str]) -> None:
    (tree / "a.wav").write_text("no audio")
    result = run(tree, "-o", tmp_path / "out", *option)
    assert result.exit_code == 1
    assert "fun-asr: stopped, 4 left; the same command goes on from here\n" in result.stderr
    assert files(tmp_path / "out") == {}


def test_lists_and_odd_names(run, tmp_path: Path) -> None:
    odd = write(tmp_path / "in" / "two\nlines.wav")
    odd.rename(name := Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9\n.wav")))
    scp = tmp_path / "wav.scp"
    scp.write_text(f"utt-7 {write(tmp_path / 'in' / 'b.wav')}\n")
    result = run("-", scp, "-o", tmp_path / "out", "-f", "ctm,json", stdin=os.fsencode(name) + b"\0")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out" / "b.ctm").read_text().startswith("utt-7 1 ")
    written = tmp_path / "out" / os.fsdecode(b"caf\xe9\n.json")
    assert json.loads(written.read_text())["path"] == str(name)
    assert (
        "2 of 2 were done before"
        in run("-", scp, "-o", tmp_path / "out", "-f", "ctm,json", stdin=os.fsencode(name) + b"\0").stderr
    )


def test_a_manifest_decides_on_languages_and_is_completed(run, tree: Path, tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "in/talk.wav", "language": "de", "text": "what was said"},
        {"audio_filepath": "in/talk.mp3", "language": "zh"},
        {"audio_filepath": "in/talk.wav", "language": "de"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run(tmp_path / "list.jsonl", "-o", tmp_path / "out", "-f", "jsonl")
    assert result.exit_code == 0
    assert "1 given more than once, taken once" in result.stderr
    lines = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").iterdir()) if path.suffix == ".jsonl"]
    assert [line["language"] for line in lines] == ["zh", "de"]
    assert lines[1]["text"] == "what was said" and lines[1]["pred_text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "docx"], "'docx' is not one of"),
        (["--max_line_width", "40"], "options of subtitles need -f srt or vtt"),
        (["-f", "srt", "--max_line_count", "2"], "max_line_count needs max_line_width"),
        (["--ray_address", "auto"], "belongs to --engine ray"),
        (["--workers", "-1"], "not in the range"),
        (["-l", "klingon"], "unknown language"),
        (["--hotwords", " , "], "--hotwords': no hotwords given"),
        (["--hotwords", "names.txt"], "--hotwords': names.txt: no file that can be read"),
        (["--hotwords", "Ada," + 101 * "x"], "has 101 characters; at most 100 will do"),
    ],
)
def test_wrong_usage_is_status_2(run, tree: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = run(tree, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_makes_any_recording_fail_is_one_line(run, tree: Path, tmp_path: Path) -> None:
    result = run(tree, "-o", tmp_path / "out", "-l", "fr")
    assert result.exit_code == 2
    assert result.stderr == "fun-asr: error: the model does not know the language 'fr'\n"
    (tmp_path / "file").touch()
    result = run(tree, "-o", tmp_path / "file" / "out")
    assert result.stderr == f"fun-asr: error: {tmp_path / 'file' / 'out'}: cannot be written to: Not a directory\n"


def test_the_parent_of_the_workers_loads_no_torch(tree: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from fun_asr.cli import main\n"
        "try:\n"
        f"    main(['batch', {str(tree / 'missing.wav')!r}, '-o', {str(tmp_path / 'out')!r}])\n"
        "except SystemExit as status:\n"
        "    print(status.code, 'torch' in sys.modules)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "1 False\n"


# The command, in shards that are small for a test, that kills itself at the Nth time it writes or renames a file: half
# of what was to be written is then there, as after a kill at a random moment, but whatever the speed of the machine.
PROGRAM = """
import os, signal, sys
from fun_asr.batch import shards
from fun_asr.cli import main

shards.MOST_FILES = shards.FEWEST_FILES = 13
left = int(sys.argv.pop(1))

def dying(function, half):
    def call(*arguments):
        global left
        left -= 1
        if left == 0:
            half(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

write = os.write
os.write = dying(write, lambda file, content: write(file, content[: len(content) // 2]))
os.replace = dying(os.replace, lambda *_: None)
os.fsync = dying(os.fsync, lambda *_: None)
main()
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_taken_up_again_the_output_is_the_same(
    run, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_FILES", 13)
    monkeypatch.setattr(shards, "FEWEST_FILES", 13)
    rng = random.Random(5)
    bad = []
    for number in range(60):
        path = tmp_path / "in" / f"{number % 7}" / f"{number}{FORMATS[number % 4]}"
        write(path, rng.uniform(0.3, 2.5), number)
        if number % 10 == 3:
            bad.append(path)
            path.write_bytes({3: b"", 13: path.read_bytes()[:300]}.get(number, b"no audio at all"))
    source, formats = tmp_path / "in", ("-f", "txt,json,srt")

    whole = run(source, "-o", tmp_path / "whole", *formats)
    # A recording takes eight operations, so that no run comes to its end.
    for workers in (0, 1, 2):
        command = [sys.executable, "-c", PROGRAM, rng.randrange(1, 120), "batch", source, "-o", tmp_path / "killed"]
        options = ["--model", tiny_model_dir, "--device", "cpu", "--compute_type", "float32", "--threads", "1"]
        killed = subprocess.run(
            [*map(str, [*command, *options, *formats, "--workers", workers])], capture_output=True, timeout=600
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = run(source, "-o", tmp_path / "killed", *formats)

    assert (whole.exit_code, last.exit_code) == (1, 1)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == 54 * 3
    for finished in (whole, last):
        named = re.findall(r"error: (\S+?): ", finished.stderr)
        assert sorted(named) == sorted(map(str, bad))
    lines = (tmp_path / "killed" / JOURNAL_FILE).read_bytes().splitlines()
    records = [json.loads(line) for line in lines if line.endswith(b"}") and line.startswith(b"{")]
    done = [record["file"][0] for record in records if record["event"] == "done"]
    assert len(done) == len(set(done)) == 54
