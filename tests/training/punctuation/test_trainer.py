"""Training of the punctuation model: labels, windows, exact resume, scores against an independent count."""

import dataclasses
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fun_asr.configuration import load_yaml
from fun_asr.errors import CheckpointError, ConfigError, ManifestError
from fun_asr.punctuation.network import Case, Mark, PunctuationNet
from fun_asr.punctuation.punctuator import Prediction, Punctuator
from fun_asr.punctuation.wordpiece import SPECIAL_PIECES, WordPieceTokenizer
from fun_asr.training.punctuation.labels import (
    UNKNOWN_CASE,
    label_sentence,
    label_text,
    read_sentences,
    simulate_pauses,
)
from fun_asr.training.punctuation.scores import best_bias, score
from fun_asr.training.punctuation.trainer import PunctuationTrainConfig, PunctuationTrainer
from fun_asr.training.punctuation.windows import IGNORED, PADDING, PunctuationBatch, WindowOptions, Windows

BOOK = [
    "Who is there?",
    "It is Mr. McDonald, of Paris; he waits.",
    "Come in!",
    "“Why?” said Anna, and went away—slowly.",
    "He had twenty cats and no dogs.",
    "They were black.",
] * 12
SIGNS = {
    Mark.NONE: "", Mark.COMMA: ",", Mark.PERIOD: ".", Mark.QUESTION: "?", Mark.EXCLAMATION: "!",
    Mark.QUESTION_INSIDE: "?-", Mark.EXCLAMATION_INSIDE: "!-",
}  # fmt: skip
CASES = {UNKNOWN_CASE: "_", Case.LOWER: "", Case.CAPITALISED: "^", Case.UPPER: "^^", Case.MIXED: "*"}


@pytest.mark.parametrize(
    ("sentence", "labelled"),
    [
        ("Yes, I am.", "yes_, i^ am."),
        ("“Dear me!” said Mr. Pocket, Junior.", "dear_ me!- said mr* pocket^, junior^."),
        ("I left; and he, too; it rained—hard: twice…", "i_ left, and he, too. it rained, hard, twice."),
        ("He asked, “Where is NASA?” Nobody knew", "he_ asked, where_ is nasa^^? nobody_ knew."),
        ("‘Tis 25 lb. of John’s (old) tea, O’Brien!", "tis_ 0 lb of john's^ old_ tea, o'brien*!"),
        ("Well . . . perhaps “—", "well_ perhaps."),
        ("— “ ”", ""),
    ],
)
def test_labels_of_a_sentence(sentence: str, labelled: str) -> None:
    words = [word.word + CASES[word.case] + SIGNS[word.mark] for word in label_sentence(sentence)]
    assert " ".join(words) == labelled


def test_reading_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress("Één.\nTwo.\n".encode()))
    (tmp_path / "b.jsonl").write_text('{"written": "One."}\n{"written": null}\n')
    assert list(read_sentences(tmp_path / "a.txt.xz")) == ["Één.", "Two."]
    assert list(read_sentences(tmp_path / "b.jsonl")) == ["One.", ""]
    (tmp_path / "c.jsonl").write_text("[]\n")
    for name, cause in (("c.jsonl", ":1: no utterance"), ("d.txt", "cannot be read")):
        with pytest.raises(ManifestError, match=name + ".*" + cause):
            list(read_sentences(tmp_path / name))


WORDS = sorted({word.word for line in [*BOOK, "Alone I stand.", "0"] for word in label_sentence(line)})
PIECES = [*SPECIAL_PIECES, *WORDS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]


def windows(text_of: tuple[list[str], list[str]], seed: int = 0, **changes: float) -> Windows:
    """Every word is one piece, and shown as it is."""
    values = {"rows": 16, "window": 40, "short_rows": 0.5, "known_pauses": 0.5, "digits": 0.0, "wrong_words": 0.0}
    options = WindowOptions(**{**values, "masked_words": 0.0, **changes})
    return Windows(label_text(*text_of), WordPieceTokenizer(PIECES), options, seed)


def shown(batch: PunctuationBatch) -> list[list[str]]:
    """The texts of each row."""
    rows = []
    for pieces, texts in zip(batch.pieces_BT.tolist(), batch.texts_BT.tolist(), strict=True):
        numbers = [number for number in dict.fromkeys(texts) if number != PADDING]
        rows.append([" ".join(PIECES[p] for p, t in zip(pieces, texts, strict=True) if t == n) for n in numbers])
    return rows


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, other = windows((BOOK, [])).batch(3), windows((BOOK, [])).batch(3)
    assert torch.equal(one.pieces_BT, other.pieces_BT)
    assert torch.equal(one.pauses_BT, other.pauses_BT)
    assert not torch.equal(one.pieces_BT, windows((BOOK, [])).batch(4).pieces_BT)


def test_long_windows_follow_the_text_and_short_ones_hold_texts_of_their_own() -> None:
    alone = ["Alone I stand."]
    made = windows((BOOK, alone))
    book = " ".join(word.word for line in BOOK for word in label_sentence(line))
    starts = {label_sentence(line)[0].word for line in [*BOOK, *alone]}
    rows = [row for step in range(4) for row in shown(made.batch(step))]
    assert all(text.startswith("[CLS] ") and text.endswith(" [SEP]") for row in rows for text in row)
    texts = [[text.removeprefix("[CLS] ").removesuffix(" [SEP]") for text in row] for row in rows]
    whole = [row[0] for row in texts if len(row) == 1]
    assert len({text.split()[0] for text in whole}) > len(starts)
    assert all(text in book and len(text.split()) == 38 for text in whole)
    parted = [text for row in texts if len(row) > 1 for text in row]
    assert all(text.split()[0] in starts for text in parted)
    assert all(text in book or set(text.split()) <= {"alone", "i", "stand"} for text in parted)
    assert any("alone" in text for text in parted)
    assert any(text in book for text in parted)


def test_positions_begin_anew_with_each_text() -> None:
    batch = windows((BOOK, []), short_rows=1.0).batch(0)
    begins = batch.pieces_BT == PIECES.index("[CLS]")
    assert torch.equal(begins & (batch.texts_BT != PADDING), (batch.positions_BT == 0) & (batch.texts_BT != PADDING))
    assert int(begins.sum()) > len(begins)


def test_labels_sit_on_the_last_pieces_of_words() -> None:
    split = [piece for piece in PIECES if piece != "mcdonald"]
    options = WindowOptions(rows=16, window=40, digits=0.0, wrong_words=0.0, masked_words=0.0, known_pauses=0.5)
    batch = Windows(label_text(BOOK), WordPieceTokenizer(split), options, 0).batch(0)
    rows = [[split[piece] for piece in row] for row in batch.pieces_BT.tolist()]
    seen = 0
    for b, row in enumerate(rows):
        for t, piece in enumerate(row):
            mark, case = batch.marks_BT[b, t].item(), batch.cases_BT[b, t].item()
            goes_on = row[t + 1 : t + 2] and row[t + 1].startswith("##")
            assert (mark == IGNORED) == bool(piece in SPECIAL_PIECES or goes_on)
            assert (piece == "there") <= (mark == Mark.QUESTION)
            seen += case == Case.MIXED and piece == "##d"
    assert seen
    known = batch.pauses_BT.sum(dim=1) > 0
    assert 0 < int(known.sum()) < len(rows)
    assert bool((batch.pauses_BT[batch.marks_BT == IGNORED] == 0).all())


def test_number_words_become_digits() -> None:
    rows = shown(windows((BOOK, []), digits=1.0).batch(0))
    assert not any("twenty" in text for row in rows for text in row)
    assert any(" 0 " in text for row in rows for text in row)


def test_words_are_misheard_and_hidden_but_keep_their_marks() -> None:
    plain, changed = windows((BOOK, []), short_rows=0.0), windows((BOOK, []), short_rows=0.0, wrong_words=0.3)
    hidden = windows((BOOK, []), short_rows=0.0, masked_words=0.3).batch(0)
    assert 0.2 < float((hidden.pieces_BT == PIECES.index("[MASK]")).float().mean()) < 0.4
    one, other = plain.batch(0), changed.batch(0)
    assert torch.equal(one.marks_BT[0], other.marks_BT[0])
    different = one.pieces_BT[0] != other.pieces_BT[0]
    assert 0 < int(different.sum()) < 30
    assert bool((other.cases_BT[0][different] == IGNORED).all())


def test_pauses_tell_sentences_from_words() -> None:
    marks = np.repeat(np.array([Mark.NONE, Mark.COMMA, Mark.PERIOD, Mark.QUESTION_INSIDE]), 4000)
    pauses = simulate_pauses(marks, np.random.default_rng(0))
    none, comma, period, inside = (np.median(part) for part in pauses.reshape(4, -1))
    assert none < 0.05 < comma < 0.3 < period < 0.8
    assert abs(inside - comma) < 0.05
    assert pauses.min() == 0


@pytest.fixture
def folder(tmp_path: Path, tiny_punctuation_dir: Path) -> Path:
    """What `write_config` needs."""
    (tmp_path / "start").symlink_to(tiny_punctuation_dir)
    return tmp_path


def write_config(folder: Path, **changes: object) -> Path:
    (folder / "book.txt").write_text("\n".join(BOOK), encoding="utf-8")
    values = {
        "output_dir": "run",
        "texts": [{"path": "book.txt", "dev": ["1-6"], "test": ["67-72"]}],
        "init": "start",
        "windows": {"rows": 4, "window": 64},
        "steps": 6,
        "warmup_steps": 2,
        "decay_steps": 2,
        **changes,
    }
    path = folder / f"{values['output_dir']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def train(path: Path) -> Path:
    return PunctuationTrainer(load_yaml(PunctuationTrainConfig, path), path.parent).run()


def test_a_killed_run_goes_on_as_if_it_had_not_been(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(write_config(folder, output_dir="whole"))

    trainer_step = PunctuationTrainer._train_step

    def dies_at_four(self: PunctuationTrainer, net: PunctuationNet) -> float:
        if self.step == 4:
            raise KeyboardInterrupt
        return trainer_step(self, net)

    path = write_config(folder, output_dir="cut", checkpoint_minutes=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(PunctuationTrainer, "_train_step", dies_at_four)
        with pytest.raises(KeyboardInterrupt):
            train(path)
    cut = train(path)
    one, other = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_damaged_checkpoint_is_named(folder: Path) -> None:
    path = write_config(folder)
    train(path)
    (folder / "run" / "checkpoint-0000006" / "optimizer.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="checkpoint-0000006: damaged"):
        train(write_config(folder, steps=8))


def test_a_finished_run_does_nothing_when_it_is_started_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_config(folder)
    final = train(path)
    before = {file: file.stat().st_mtime_ns for file in (folder / "run").rglob("*")}
    assert train(path) == final
    assert {file: file.stat().st_mtime_ns for file in (folder / "run").rglob("*")} == before
    assert "finished, nothing to do" in capfd.readouterr().err


def test_it_learns_its_book(folder: Path) -> None:
    path = write_config(folder, steps=150, learning_rate=3e-3, decay_steps=50)
    final = train(path)
    scores = json.loads((folder / "run" / "scores.json").read_text())
    assert scores["book.txt"]["marks"]["period"]["f1"] > 0.8
    assert scores["book.txt"]["marks"]["question"]["f1"] > 0.9
    assert scores["book.txt"]["case_accuracy"] > scores["book.txt"]["lower_accuracy"]
    assert Punctuator.load(final).punctuate_text("who is there it is mr mcdonald").startswith("Who is there?")


def test_held_out_and_excluded_sentences_are_not_learnt(folder: Path) -> None:
    lines = ["Zebras sleep.", "Yaks eat."]
    (folder / "alone.jsonl").write_text("\n".join(json.dumps({"written": line}) for line in lines))
    (folder / "copy.txt").write_text("ZEBRAS sleep!\nXerus runs.\nQuails fly.\n")
    row = {"audio_filepath": "a.wav", "duration": 1, "text": "quails fly"}
    (folder / "dev.jsonl").write_text(json.dumps(row) + "\n")
    texts = [
        {"path": "book.txt"},
        {"path": "copy.txt"},
        {"path": "alone.jsonl", "connected": False, "test": ["1-1"], "weight": 2},
    ]
    path = write_config(folder, texts=texts, exclude=["dev.jsonl"])
    trainer = PunctuationTrainer(load_yaml(PunctuationTrainConfig, path), path.parent)
    assert trainer.texts.tests == {"alone.jsonl": [["Zebras sleep."]]}
    assert trainer.texts.connected == [*BOOK, "Xerus runs."]
    assert trainer.texts.alone == ["Yaks eat."] * 2


@pytest.mark.parametrize("lines", ["5", "7-6", "0-3", "a-b"])
def test_a_range_that_is_none_is_refused(folder: Path, lines: str) -> None:
    path = write_config(folder, texts=[{"path": "book.txt", "test": [lines]}])
    with pytest.raises(ConfigError, match="range of lines"):
        load_yaml(PunctuationTrainConfig, path)


class _Fixed(Punctuator):
    """Says what it is told."""

    def __init__(self, marks: list[Mark], words: list[str]) -> None:
        self._marks, self._words = marks, words

    def predict(self, words: object, pauses: object = None) -> object:  # type: ignore[override]
        return Prediction(self._marks, [])

    def write(self, words: object, prediction: object) -> list[str]:  # type: ignore[override]
        return self._words


def test_scores_against_a_count_by_hand() -> None:
    # Reference: Is it so? Yes, Tom, it is.
    marks = [Mark.NONE, Mark.NONE, Mark.QUESTION, Mark.PERIOD, Mark.COMMA, Mark.COMMA, Mark.PERIOD]
    words = ["Is", "it", "so?", "Yes.", "Tom,", "It,", "is."]
    result = score(_Fixed(marks, words), [["Is it so?", "Yes, Tom, it is."]])
    assert result.words == 7
    assert (result.marks["question"].f1, result.marks["question"].count) == (1.0, 1)
    assert (result.marks["comma"].precision, result.marks["comma"].recall) == (0.5, 0.5)
    assert (result.marks["period"].precision, result.marks["period"].recall) == (0.5, 1.0)
    assert result.benchmark["period"] == result.marks["period"]
    assert result.case_accuracy == pytest.approx(6 / 7)
    assert result.lower_accuracy == pytest.approx(4 / 7)


def test_the_benchmark_takes_semicolons_and_exclamations_for_full_stops() -> None:
    # Found: Go. I ran. And fell!
    marks = [Mark.PERIOD, Mark.NONE, Mark.PERIOD, Mark.NONE, Mark.EXCLAMATION]
    result = score(_Fixed(marks, ["Go.", "I", "ran.", "And", "fell!"]), [["Go!", "I ran; and fell."]])
    assert result.marks["period"].f1 == 0.0
    assert result.marks["comma"].count == 1
    assert (result.benchmark["period"].f1, result.benchmark["period"].count) == (1.0, 3)
    assert result.benchmark["comma"].count == 0


def test_a_window_longer_than_the_model_knows_is_refused(folder: Path) -> None:
    path = write_config(folder, windows={"rows": 4, "window": 65})
    with pytest.raises(ConfigError, match="64 positions"):
        train(path)


def test_the_bias_raises_the_scores(folder: Path) -> None:
    final = train(write_config(folder, steps=30))
    punctuator = Punctuator.load(final)
    texts = [BOOK[:30]]

    def total(bias: tuple[float, ...]) -> float:
        net = punctuator._net
        net.config = dataclasses.replace(net.config, mark_bias=bias)
        return sum(mark.f1 for mark in score(punctuator, texts).marks.values())

    assert total(best_bias(punctuator, texts)) >= total((0.0,) * 5)
