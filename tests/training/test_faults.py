"""What is wrong with manifests, sound and text is said before a run, at once, and nothing hangs."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from fun_asr.cli import main
from tests.models.conformer.conftest import publish
from tests.training.runs import WORDS, make_corpus, read_rows, trainer_of, write_config, write_manifest

SECONDS = 10
at_once = pytest.mark.timeout(SECONDS, func_only=True)
pytestmark = at_once


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path)


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish("ctc", tmp_path_factory.mktemp("parakeet")).directory


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", str(path), *arguments])


def refusal(path: Path) -> str:
    """The one line with which a run ends."""
    result = run(path)
    assert result.exit_code != 0
    assert not (path.parent / "run").exists(), "nothing was begun"
    return result.stderr.splitlines()[-1]


def change(corpus: Path, count: int, **values: object) -> None:
    """Change the first lines of the manifest."""
    rows = read_rows(corpus / "train.jsonl")
    write_manifest(corpus / "train.jsonl", [row | values if i < count else row for i, row in enumerate(rows)])


def test_no_path_exists(corpus: Path, tiny_model_dir: Path) -> None:
    for sound in corpus.glob("*.wav"):
        sound.unlink()
    line = refusal(write_config(corpus, tiny_model_dir))
    assert "train.jsonl: none of 6 utterances can be trained on: 6 no such file" in line
    assert f"first {corpus / '0.wav'} ({corpus / 'train.jsonl'}:1)" in line


def test_half_of_the_paths_are_wrong(corpus: Path, tiny_model_dir: Path) -> None:
    change(corpus, 3, audio_filepath="none.wav")
    line = refusal(write_config(corpus, tiny_model_dir))
    assert "3 of 6 utterances cannot be trained on, more than 10 % (most_left_out): 3 no such file" in line


def test_what_is_left_out_is_listed_with_its_reason(corpus: Path, tiny_model_dir: Path) -> None:
    (corpus / "2.wav").write_bytes(b"no sound at all")
    (corpus / "3.wav").write_bytes(b"")
    rows = read_rows(corpus / "train.jsonl")
    rows[1]["audio_filepath"] = "none.wav"
    rows[4]["duration"] = 31
    rows.append(rows[5] | {"offset": 60})
    write_manifest(corpus / "train.jsonl", rows)
    result = run(write_config(corpus, tiny_model_dir, steps=1, most_left_out=0.9))
    assert result.exit_code == 0, result.stderr
    assert "train.jsonl: 2 of 7 utterances" in result.stderr
    for reason in (
        r"1  no such file, first .*none\.wav \(.*train\.jsonl:2\)",
        r"1  not readable as audio, first .*2\.wav",
        r"1  an empty file, first .*3\.wav",
        r"1  over 30 s: cut it at a pause, first .*4\.wav",
        r"1  the recording ends before the utterance does, first .*5\.wav \(.*train\.jsonl:7\)",
    ):
        assert re.search(rf"left out +{reason}", result.stderr), result.stderr
    with (corpus / "run" / "left-out.tsv").open(newline="") as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    assert [row["manifest"].rpartition(":")[2] for row in listed] == ["2", "3", "4", "5", "7"]
    assert listed[0]["why"] == "no such file"


def test_a_pipe_and_a_folder_are_no_sound(corpus: Path, tiny_model_dir: Path) -> None:
    os.mkfifo(corpus / "pipe.wav")
    change(corpus, 6, audio_filepath="pipe.wav")
    assert "6 not a file" in refusal(write_config(corpus, tiny_model_dir))
    change(corpus, 6, audio_filepath=str(corpus))
    assert "6 not a file" in refusal(write_config(corpus, tiny_model_dir))


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf")])
def test_utterances_without_a_length(corpus: Path, tiny_model_dir: Path, duration: float) -> None:
    change(corpus, 6, duration=duration)
    assert "6 no length" in refusal(write_config(corpus, tiny_model_dir))


def test_text_in_capitals_is_made_small_for_ctc(corpus: Path, tiny_model_dir: Path) -> None:
    rows = [row | {"text": text.upper(), "written": ""} for row, text in zip(read_rows(corpus / "train.jsonl"), WORDS)]  # noqa: B905
    write_manifest(corpus / "train.jsonl", rows)
    path = write_config(corpus, tiny_model_dir)
    trainer = trainer_of(path)
    assert [u.text for u in trainer.sources[0][0]] == WORDS
    assert [u.written for u in trainer.sources[0][0]] == WORDS, "the decoder does not learn to shout"
    batch = trainer.collate_dev(trainer.sources[0][0], np.random.default_rng(0))
    assert [trainer.trainee.ctc_tokenizer.decode(label.tolist()) for label in batch.ctc_labels] == WORDS  # type: ignore[attr-defined]
    assert re.search(r"changed +6  capitals in text", run(path, "--set", "steps=1").stderr)


def test_letters_that_the_ctc_head_lacks(corpus: Path, tiny_model_dir: Path) -> None:
    change(corpus, 3, text="größe ñ")
    assert "3 letters that the CTC head does not write (ßñö), first" in refusal(write_config(corpus, tiny_model_dir))
    change(corpus, 6, language="de", text="größe", written="Gr")
    result = run(write_config(corpus, tiny_model_dir, steps=1))
    assert result.exit_code == 0, result.stderr
    assert re.search(r"changed +6  trains the decoder alone: the CTC head does not write de", result.stderr)


def test_letters_and_capitals_of_a_published_ctc_model(corpus: Path, parakeet: Path) -> None:
    change(corpus, 6, text="ONE", written="")
    trainer = trainer_of(write_config(corpus, parakeet))
    assert {u.text for u in trainer.sources[0][0]} == {"one"}
    change(corpus, 2, text="one", written="größe 7")
    assert "2 letters that the vocabulary lacks (7ßö)" in refusal(write_config(corpus, parakeet))
    change(corpus, 6, text="and the sound of it " * 9, written="")
    assert "6 more text than frames" in refusal(write_config(corpus, parakeet))


def test_more_text_than_the_decoder_has_tokens(corpus: Path, tiny_model_dir: Path) -> None:
    change(corpus, 6, written="so many letters that they do not fit")
    assert "6 more than the decoder's 20 tokens of text" in refusal(write_config(corpus, tiny_model_dir))


def test_languages_that_the_model_lacks(corpus: Path, tiny_model_dir: Path) -> None:
    change(corpus, 6, language="fr")
    assert "6 the model has no language fr" in refusal(write_config(corpus, tiny_model_dir))


def test_a_dev_set_without_sound(corpus: Path, tiny_model_dir: Path) -> None:
    write_manifest(corpus / "dev.jsonl", [row | {"audio_filepath": "x"} for row in read_rows(corpus / "train.jsonl")])
    assert "dev.jsonl: none of 6" in refusal(write_config(corpus, tiny_model_dir, dev=[{"manifest": "dev.jsonl"}]))


def test_sound_that_goes_while_it_is_trained_on(corpus: Path, tiny_model_dir: Path) -> None:
    trainer = trainer_of(write_config(corpus, tiny_model_dir))
    for sound in corpus.glob("*.wav"):
        sound.unlink()
    with pytest.raises(Exception, match=r"train\.jsonl: nothing could be decoded in a whole epoch"):
        trainer.run()


def test_long_utterances_are_not_slowed_down_beyond_what_fits(corpus: Path, tiny_model_dir: Path) -> None:
    soundfile.write(corpus / "long.wav", 0.1 * np.random.default_rng(0).normal(size=29 * 16_000), 16_000)
    change(corpus, 6, audio_filepath="long.wav", duration=29)
    trainer = trainer_of(write_config(corpus, tiny_model_dir, augment={"speeds": [0.9]}))
    said: list[str] = []
    trainer.collate.on_left_out = lambda utterance, why: said.append(why)
    kept, _ = trainer.collate.read(trainer.sources[0][0][:1], np.random.default_rng(0))
    assert (len(kept), said) == (1, [])


def test_a_finished_run_does_nothing_when_it_is_started_again(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=2)
    assert run(path).exit_code == 0
    before = {file: file.stat().st_mtime_ns for file in (corpus / "run").rglob("*")}
    again = run(path)
    assert again.stdout == f"{corpus / 'run' / 'final'}\n"
    assert "finished, nothing to do; raise steps to go on" in again.stderr
    assert {file: file.stat().st_mtime_ns for file in (corpus / "run").rglob("*")} == before
    assert "step 3/3" in run(path, "--set", "steps=3").stderr


def test_a_run_that_was_killed_before_its_model_was_written_is_finished(corpus: Path, tiny_model_dir: Path) -> None:
    path = write_config(corpus, tiny_model_dir, steps=2)
    run(path)
    (corpus / "run" / "final" / "config.json").unlink()
    result = run(path)
    assert result.exit_code == 0
    assert "averaged" in result.stderr
    assert "step 2/2" not in result.stderr
    assert (corpus / "run" / "final" / "config.json").exists()
