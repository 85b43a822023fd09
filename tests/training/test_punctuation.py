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

from fun_asr.errors import CheckpointError, ConfigError, ManifestError
from fun_asr.model.config import load_yaml
from fun_asr.model.punctuation import Case, Mark, WordFeatures
from fun_asr.text.punctuation import Prediction, Punctuator
from fun_asr.training import punctuation
from fun_asr.training.punctuation import PunctuationTrainConfig, PunctuationTrainer
from fun_asr.training.punctuation_data import (
    UNKNOWN_CASE,
    label_sentence,
    label_text,
    read_sentences,
    simulate_pauses,
)
from fun_asr.training.punctuation_scores import best_bias, score
from fun_asr.training.punctuation_windows import IGNORED, PunctuationBatch, Windows

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


def windows(text_of: tuple[list[str], list[str]], seed: int = 0, **changes: float) -> tuple[Windows, list[str]]:
    text = label_text(*text_of)
    options = {"short_rows": 0.5, "known_pauses": 0.5, "digits": 0.0, **changes}
    return (
        Windows(text, WordFeatures(text.types, 16), rows=16, window=40, gap=5, seed=seed, **options),
        text.types,
    )


def shown(batch: PunctuationBatch, types: list[str]) -> list[list[str]]:
    """Words of each row, "|" for padding."""
    words = ["|", *types]
    numbers = torch.where(batch.mask_BT > 0, batch.numbers_BT, 0)
    return [[words[n] for n in row] for row in numbers.tolist()]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    one, other = windows((BOOK, []))[0].batch(3), windows((BOOK, []))[0].batch(3)
    assert torch.equal(one.numbers_BT, other.numbers_BT)
    assert torch.equal(one.pauses_BT, other.pauses_BT)
    assert not torch.equal(one.numbers_BT, windows((BOOK, []))[0].batch(4).numbers_BT)


def test_long_windows_follow_the_text_and_short_ones_part_texts_by_the_gap() -> None:
    alone = ["Alone I stand."]
    made, types = windows((BOOK, alone))
    book = " ".join(word.word for line in BOOK for word in label_sentence(line))
    starts = {label_sentence(line)[0].word for line in [*BOOK, *alone]}
    rows = [row for step in range(4) for row in shown(made.batch(step), types)]
    whole = [row for row in rows if "|" not in row]
    assert whole
    assert len({row[0] for row in whole}) > len(starts)
    for row in whole:
        assert " ".join(row) in book
    parted = [row for row in rows if "|" in row]
    assert parted
    for row in parted:
        texts = [text.split() for text in " ".join(row).split("| | | | |")]
        assert all(text[0] in starts for text in texts if text)
        assert all("alone" not in text or text[:3] == ["alone", "i", "stand"][: len(text)] for text in texts)


def test_labels_sit_on_their_words_and_padding_has_none() -> None:
    made, types = windows((BOOK, []))
    batch = made.batch(0)
    rows = shown(batch, types)
    for b, row in enumerate(rows):
        for t, word in enumerate(row):
            mark = batch.marks_BT[b, t].item()
            assert (mark == IGNORED) == (word == "|")
            assert (word == "there") <= (mark == Mark.QUESTION)
            assert (word == "mcdonald") <= (batch.cases_BT[b, t].item() == Case.MIXED)
    known = batch.pauses_BT.sum(dim=1) > 0
    assert 0 < int(known.sum()) < len(rows)


def test_number_words_become_digits() -> None:
    made, types = windows((BOOK, []), digits=1.0)
    assert not any("twenty" in row for row in shown(made.batch(0), types))


def test_pauses_tell_sentences_from_words() -> None:
    marks = np.repeat(np.array([Mark.NONE, Mark.COMMA, Mark.PERIOD, Mark.QUESTION_INSIDE]), 4000)
    pauses = simulate_pauses(marks, np.random.default_rng(0))
    none, comma, period, inside = (np.median(part) for part in pauses.reshape(4, -1))
    assert none < 0.05 < comma < 0.3 < period < 0.8
    assert abs(inside - comma) < 0.05
    assert pauses.min() == 0


def write_config(folder: Path, **changes: object) -> Path:
    (folder / "book.txt").write_text("\n".join(BOOK), encoding="utf-8")
    values = {
        "output_dir": "run",
        "texts": [{"path": "book.txt", "dev": ["1-6"], "test": ["67-72"]}],
        "model": {"num_words": 20, "num_affixes": 32, "embedding_dim": 8, "dim": 16, "dilations": [1, 2]},
        "steps": 6,
        "rows": 4,
        "window": 32,
        "warmup_steps": 2,
        **changes,
    }
    path = folder / f"{values['output_dir']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def train(path: Path) -> Path:
    return PunctuationTrainer(load_yaml(PunctuationTrainConfig, path), path.parent).run()


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(write_config(tmp_path, output_dir="whole"))

    trainer_step = PunctuationTrainer._train_step

    def dies_at_four(self: PunctuationTrainer, net: punctuation.PunctuationNet) -> float:
        if self.step == 4:
            raise KeyboardInterrupt
        return trainer_step(self, net)

    path = write_config(tmp_path, output_dir="cut", checkpoint_minutes=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(PunctuationTrainer, "_train_step", dies_at_four)
        with pytest.raises(KeyboardInterrupt):
            train(path)
    cut = train(path)
    one, other = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    train(path)
    (tmp_path / "run" / "checkpoint-0000006" / "optimizer.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="checkpoint-0000006: damaged"):
        train(path)


def test_it_learns_its_book(tmp_path: Path) -> None:
    path = write_config(tmp_path, steps=150, learning_rate=1e-2)
    final = train(path)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["book.txt"]["marks"]["period"]["f1"] > 0.9
    assert scores["book.txt"]["marks"]["question"]["f1"] > 0.9
    assert scores["book.txt"]["case_accuracy"] > scores["book.txt"]["lower_accuracy"]
    assert Punctuator.load(final).punctuate_text("who is there it is mr mcdonald").startswith("Who is there?")


def test_held_out_and_excluded_sentences_are_not_learnt(tmp_path: Path) -> None:
    lines = ["Zebras sleep.", "Yaks eat."]
    (tmp_path / "alone.jsonl").write_text("\n".join(json.dumps({"written": line}) for line in lines))
    (tmp_path / "copy.txt").write_text("ZEBRAS sleep!\nXerus runs.\nQuails fly.\n")
    row = {"audio_filepath": "a.wav", "duration": 1, "text": "quails fly"}
    (tmp_path / "dev.jsonl").write_text(json.dumps(row) + "\n")
    texts = [
        {"path": "book.txt"},
        {"path": "copy.txt"},
        {"path": "alone.jsonl", "connected": False, "test": ["1-1"], "weight": 2},
    ]
    path = write_config(tmp_path, texts=texts, exclude=["dev.jsonl"], model={"num_words": 99})
    trainer = PunctuationTrainer(load_yaml(PunctuationTrainConfig, path), path.parent)
    known = set(trainer.model.words)
    assert "yaks" in known
    assert not known & {"zebras", "quails"}
    assert trainer.texts.tests == {"alone.jsonl": [["Zebras sleep."]]}
    assert trainer.texts.alone == ["Yaks eat."] * 2


@pytest.mark.parametrize("lines", ["5", "7-6", "0-3", "a-b"])
def test_a_range_that_is_none_is_refused(tmp_path: Path, lines: str) -> None:
    path = write_config(tmp_path, texts=[{"path": "book.txt", "test": [lines]}])
    with pytest.raises(ConfigError, match="range of lines"):
        load_yaml(PunctuationTrainConfig, path)


class _Fixed(Punctuator):
    """Says what it is told."""

    def __init__(self, marks: list[Mark], words: list[str]) -> None:
        self._marks, self._words = marks, words

    def predict(self, words: object, pauses: object = None) -> object:  # type: ignore[override]
        return Prediction(self._marks, [])

    def punctuate(self, words: object, pauses: object = None) -> list[str]:  # type: ignore[override]
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
    assert result.case_accuracy == pytest.approx(6 / 7)
    assert result.lower_accuracy == pytest.approx(4 / 7)


def test_the_bias_raises_the_scores(tmp_path: Path) -> None:
    final = train(write_config(tmp_path, steps=30))
    punctuator = Punctuator.load(final)
    texts = [BOOK[:30]]

    def total(bias: tuple[float, ...]) -> float:
        net = punctuator._net
        net.config = dataclasses.replace(net.config, mark_bias=bias)
        return sum(mark.f1 for mark in score(punctuator, texts).marks.values())

    assert total(best_bias(punctuator, texts)) >= total((0.0,) * 5)
