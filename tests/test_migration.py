"""docs/migration.md: what stands there for other recognisers' commands works, and so do Whisper's own."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from fun_asr.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+)` \| `(fun-asr [^`]+)` \|", PAGE, re.MULTILINE)
WHISPERS = [there for there, _ in ROWS if there.startswith(("whisper ", "whisper-ctranslate2 "))]
ON_TINY_MODEL = {"transcribe", "batch", "evaluate"}
SECONDS = 64  # so that --clip_timestamps 0,30,60,90 finds something


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of tone every half minute."""
    path = tmp_path_factory.mktemp("recording") / "talk.wav"
    time = np.arange(SECONDS * 16_000) / 16_000
    wave = np.where(time % 30 < 1, 0.2 * np.sin(2 * np.pi * 300 * time), 0)
    soundfile.write(path, wave.astype(np.float32), 16_000)
    return path


@pytest.fixture
def folder(tmp_path: Path, recording: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the page's commands name."""
    for name in ("talk.mp3", "talk.mp4", "call.wav", "recordings/a.wav", "recordings/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(recording, tmp_path / name)
    for name in ("whisper-small", "parakeet-tdt-0.6b-v3", "model.nemo", "SenseVoiceSmall", "run-1", "run-2"):
        (tmp_path / name).symlink_to(tiny_model_dir)
    for name in ("my-model", "translating"):
        shutil.copytree(tiny_model_dir, tmp_path / name)
    tokenizer = tmp_path / "translating" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8").replace("<|zh|>", "<|translate|>"), encoding="utf-8")
    rows = [
        {"audio_filepath": "recordings/a.wav", "offset": 0.0, "duration": 2.0, "text": "one two"},
        {"audio_filepath": "recordings/b.wav", "offset": 30.0, "duration": 2.0, "text": "three"},
    ]
    write_lines(tmp_path / "list.jsonl", rows)
    write_lines(tmp_path / "hypotheses.jsonl", [{**row, "pred_text": row["text"]} for row in rows])
    (tmp_path / "wav.scp").write_text("utt1 recordings/a.wav\nutt2 recordings/b.wav\n")
    (tmp_path / "ref.txt").write_text("utt1 one two\nutt2 three\n")
    (tmp_path / "hyp.txt").write_text("utt1 one too\nutt2 three\n")
    (tmp_path / "names.txt").write_text("quillan\nada lovelace\n")
    (tmp_path / "bare.txt").write_text("it costs twenty five dollars\n")
    (tmp_path / "sentences.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 8)
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "fine-tune.yaml", tmp_path / "configs")
    (tmp_path / "fun_asr" / "assets").mkdir(parents=True)
    (tmp_path / "fun_asr" / "assets" / "model").symlink_to(tiny_model_dir)
    for name in ("train.jsonl", "dev.jsonl"):
        write_lines(
            tmp_path / "configs" / name, [{**row, "audio_filepath": f"../{row['audio_filepath']}"} for row in rows]
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(words: list[str]) -> Result:
    """A command of fun-asr on the tiny model, unless it names another one; a training only tries itself."""
    stdin = None
    if "<" in words:
        stdin = Path(words[words.index("<") + 1]).read_bytes()
        words = words[: words.index("<")]
    command = words[0] if words[0] in main.list_commands(main.context_class(main)) else "transcribe"
    if command in ON_TINY_MODEL:
        words = [*words, "--device", "cpu", "--compute_type", "float32"]
        if not {"-m", "--model"} & set(words):
            words += ["-m", "translating" if "translate" in words else "my-model"]
    if command in ("batch", "evaluate"):
        words = [*words, "--workers", "0"]
    if command == "train" and "--dry_run" not in words:
        words = [*words, "--dry_run"]
    return CliRunner().invoke(main, words, input=stdin)


def test_the_page_has_forty_commands() -> None:
    assert len(ROWS) >= 40
    assert len({there for there, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("here", dict.fromkeys(here for _, here in ROWS))
def test_what_is_typed_here_works(folder: Path, here: str) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}
    result = run(shlex.split(here)[1:])
    assert result.exit_code == 0, result.output
    written = {path for path in folder.rglob("*") if path.is_file()} - before
    if " -o " in here:
        assert [path for path in written if folder / "out" in path.parents]
    elif not here.startswith(("fun-asr convert", "fun-asr train")):
        assert result.stdout.strip()


@pytest.mark.parametrize("there", WHISPERS)
def test_what_whisper_s_users_type_works_or_is_answered_in_one_line(folder: Path, there: str) -> None:
    result = run(shlex.split(there)[1:])
    if result.exit_code:
        assert result.exit_code == 2, result.output
        (answer,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
        assert "is not needed here: " in answer or "fetch it with fun-asr models download " in answer
