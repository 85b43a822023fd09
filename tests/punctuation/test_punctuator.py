"""Punctuation and case: one word out for a word in, idempotence, windows without seams, the bundled model."""

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fun_asr.bundled import BUNDLED_PUNCTUATION
from fun_asr.errors import CheckpointError
from fun_asr.punctuation import punctuator
from fun_asr.punctuation.network import (
    CONFIG_FILE,
    PIECES_FILE,
    WEIGHTS_FILE,
    PunctuationModel,
    load_punctuation,
    save_punctuation,
)
from fun_asr.punctuation.punctuator import Punctuator, Window, cut_windows
from fun_asr.weights.precision import ComputeType

WORDS = [
    "the",
    "of",
    "and",
    "mr",
    "mcdonald",
    "paris",
    "nasa",
    "why",
    "did",
    "he",
    "go",
    "home",
    "yes",
    "no",
    "i",
    "i'm",
    "25",
    "o'clock",
]


@pytest.fixture(scope="module")
def random_model(tiny_punctuation_dir: Path) -> PunctuationModel:
    """Every mark and case comes often."""
    model = load_punctuation(tiny_punctuation_dir)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for head in (model.net.marks, model.net.cases):
            head.weight.normal_()
        for head, log_odds in zip(
            (model.net.marks, model.net.cases), Punctuator(model).log_odds(random_words(400)), strict=True
        ):
            head.bias.sub_(log_odds.mean(dim=0))
    return dataclasses.replace(model, forms={"mcdonald": "McDonald", "mr": "Mr."})


@pytest.fixture(scope="module")
def tiny(random_model: PunctuationModel) -> Punctuator:
    return Punctuator(random_model)


@pytest.fixture(scope="module")
def bundled() -> Punctuator:
    return Punctuator.load()


def random_words(count: int, seed: int = 0) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    return [WORDS[i] for i in torch.randint(len(WORDS), (count,), generator=generator).tolist()]


def letters(words: Sequence[str]) -> list[str]:
    return [word.lower().rstrip(",.?!") for word in words]


@pytest.mark.parametrize("count", [0, 1, 2, 40, 700])
def test_each_word_keeps_its_place_and_its_letters(tiny: Punctuator, count: int) -> None:
    words = random_words(count)
    assert letters(tiny.punctuate(words)) == words


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from([*WORDS, "-", "“so", "it’s)", "Émile", "I", "NASA", "wait,", "3.5", "?", "東京"]), max_size=30
    )
)
def test_a_second_time_changes_nothing(tiny: Punctuator, words: list[str]) -> None:
    once = tiny.punctuate(words)
    assert len(once) == len(words)
    assert tiny.punctuate(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "I saw Mr. McDonald in Paris, didn't I?  “Yes,” he said; why?",
        "OK.",
        "NASA, e.g., pays $25.50 at 3:30.",
        "",
        "  \t",
        "...",
    ],
)
def test_formatted_text_passes_unchanged(tiny: Punctuator, text: str) -> None:
    assert tiny.punctuate_text(text) == text


def test_the_last_word_ends_a_sentence_and_the_first_begins_one(tiny: Punctuator) -> None:
    for seed in range(20):
        words = tiny.punctuate(random_words(9, seed))
        assert words[-1][-1] in ".?!"
        assert not words[0][0].islower()


NUMBERS = ["twenty one dollars", "nineteen eighty four", "six forty five", "john at example dot com"]


def parted(punctuator: Punctuator, pause: float | None) -> set[str]:
    """Marks inside numbers and the like."""
    words = " of ".join(NUMBERS * 20).split()
    pauses = None if pause is None else [pause] * len(words)
    marked = punctuator.punctuate(words, pauses)
    assert any(word[-1] in ",.?!" for word in marked[:-1])
    inside = [i for i in range(len(words) - 1) if "of" not in words[i : i + 2]]
    return {marked[i][-1] for i in inside} & set(",.?!")


def test_no_mark_parts_what_is_written_as_one(tiny: Punctuator) -> None:
    assert parted(tiny, None) == parted(tiny, 0.1) == set()
    # A speaker who pauses may begin a new sentence there.
    assert parted(tiny, 0.5) > set() and "," not in parted(tiny, 0.5)


def test_a_full_stop_is_followed_by_a_capital(tiny: Punctuator) -> None:
    words = tiny.punctuate(random_words(400))
    after = [b for a, b in itertools.pairwise(words) if a.endswith(".") and a.lower() != "mr."]
    assert after
    assert not any(word[0].islower() for word in after)


def test_marks_stay_and_case_is_restored_where_only_marks_are_there(bundled: Punctuator) -> None:
    assert bundled.punctuate_text("where is london? in england, i think.") == "Where is London? In England, I think."


def test_case_stays_and_marks_are_restored_where_only_case_is_there(bundled: Punctuator) -> None:
    words = ["where", "are", "you", "going", "my", "dear", "said", "Tom", "of", "ZENITH", "i", "do", "not", "know"]
    punctuated = bundled.punctuate(words)
    assert [word.rstrip(",.?!") for word in punctuated][7:10] == ["Tom", "of", "ZENITH"]
    assert punctuated[-1].endswith(".")


def test_upper_case_text_is_bare(bundled: Punctuator) -> None:
    text = "where is your brother he is in england"
    assert bundled.punctuate_text(text.upper()) == bundled.punctuate_text(text)


def test_results_do_not_depend_on_what_is_computed_together(tiny: Punctuator, monkeypatch: pytest.MonkeyPatch) -> None:
    words = random_words(150)
    pauses = [(-1.0, 0.0, 0.3, 2.0)[i % 4] for i in range(len(words))]
    together = tiny.log_odds(words, pauses)
    monkeypatch.setattr(punctuator, "ROWS", 1)
    for one, other in zip(together, tiny.log_odds(words, pauses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_pauses_count(tiny: Punctuator) -> None:
    words = random_words(10)
    marks, _ = tiny.log_odds(words, [0.0] * 10)
    changed, _ = tiny.log_odds(words, [0.0] * 4 + [1.0] + [0.0] * 5)
    assert not torch.allclose(marks[4], changed[4])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 16), max_size=120), st.integers(0, 24))
def test_windows_give_each_word_one_result_with_text_around_it(counts: list[int], margin: int) -> None:
    capacity = 80
    windows = cut_windows(np.array(counts, dtype=np.int64), capacity, margin)
    assert [i for window in windows for i in range(window.first, window.end)] == list(range(len(counts)))
    for window in windows:
        assert 0 <= window.start <= window.first < window.end <= window.stop <= len(counts)
        assert sum(counts[window.start : window.stop]) <= capacity
        # A word is shown whole or not at all, so up to 15 pieces of the margin may be missing.
        assert window.start == 0 or sum(counts[window.start : window.first]) > margin - 16
        assert window.stop == len(counts) or sum(counts[window.end : window.stop]) >= margin


def test_text_that_fits_is_one_window() -> None:
    assert cut_windows(np.ones(80, dtype=np.int64), 80, 10) == [Window(0, 0, 80, 80)]


def test_a_very_long_word_is_one_word(tiny: Punctuator) -> None:
    words = ["yes", "a" * 5000, "東京", "\u200b", "no"]
    assert len(tiny.punctuate(words)) == 5


def test_as_many_pauses_as_words(tiny: Punctuator) -> None:
    with pytest.raises(ValueError, match="2 words, but 1 pauses"):
        tiny.punctuate(["yes", "no"], [0.1])


def test_unknown_pauses_are_no_pauses(tiny: Punctuator) -> None:
    words = random_words(30)
    assert tiny.predict(words, [-1.0] * 30) == tiny.predict(words)


def test_a_stored_model_is_read_back(random_model: PunctuationModel, tmp_path: Path) -> None:
    model = dataclasses.replace(random_model, net=copy.copy(random_model.net))
    model.net.config = dataclasses.replace(model.net.config, mark_bias=(0.0, 0.1, 0.2, 0.3, 0.4))
    save_punctuation(tmp_path, model)
    stored = load_punctuation(tmp_path)
    assert (stored.pieces, stored.forms, stored.net.config) == (model.pieces, model.forms, model.net.config)
    for name, tensor in model.net.state_dict().items():
        bound = tensor.abs().amax(dim=-1, keepdim=True) / 127 if tensor.dim() > 1 else torch.tensor(1e-7)
        assert bool(((stored.net.state_dict()[name] - tensor).abs() <= bound).all()), name


@pytest.mark.parametrize("name", [CONFIG_FILE, PIECES_FILE, WEIGHTS_FILE])
def test_a_damaged_model_is_named(random_model: PunctuationModel, tmp_path: Path, name: str) -> None:
    save_punctuation(tmp_path, random_model)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(CheckpointError, match=f"{tmp_path}: damaged"):
        load_punctuation(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{tmp_path}: no punctuation model"):
        load_punctuation(tmp_path)


@pytest.mark.parametrize("compute_type", [ComputeType.BFLOAT16, ComputeType.INT8])
def test_faster_arithmetic_gives_nearly_the_same(
    random_model: PunctuationModel, tmp_path: Path, compute_type: ComputeType
) -> None:
    save_punctuation(tmp_path, random_model)
    words = random_words(100)
    exact, _ = Punctuator(load_punctuation(tmp_path)).log_odds(words)
    rounded, _ = Punctuator(load_punctuation(tmp_path, compute_type)).log_odds(words)
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize(
    ("bare", "formatted"),
    [
        ("where is your brother", "Where is your brother?"),
        ("i do not know where he is", "I do not know where he is."),
        ("mr brown lives in london", "Mr. Brown lives in London."),
        (
            "it was late when we came home and the house was dark my father had gone to bed",
            "It was late when we came home, and the house was dark. My father had gone to bed.",
        ),
    ],
)
def test_the_bundled_model_restores_plain_sentences(bundled: Punctuator, bare: str, formatted: str) -> None:
    assert bundled.punctuate_text(bare) == formatted


def test_a_pause_ends_a_sentence_of_the_bundled_model(bundled: Punctuator) -> None:
    words = ["he", "went", "away", "we", "stayed", "in", "the", "old", "house"]
    pauses = [0.0] * len(words)
    pauses[2] = 0.9
    assert bundled.punctuate(words, pauses)[2] == "away."


def test_the_bundled_model_is_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED_PUNCTUATION.iterdir()) < 10_000_000
