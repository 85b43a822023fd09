"""The guard: silence, speech by CTC, and loops."""

import numpy as np
import pytest
import torch

from fun_asr.decoding.generate import Hypothesis
from fun_asr.decoding.guard import (
    compression_ratio,
    cut_loops,
    has_speech,
    is_repetitive,
    is_silent,
    is_sure,
    may_be_speech,
    repeated_end,
    said_once,
    supported_words,
    without_loops,
)
from fun_asr.decoding.words import AlignedWord

BLANK = 3
FRAME = 640  # samples: 25 Hz


def log_probs(*rows: list[int]) -> torch.Tensor:
    """`[B, J, 4]` whose best tokens are the rows."""
    return torch.nn.functional.one_hot(torch.tensor(rows), 4).float().mul(9).log_softmax(dim=-1)


def test_zeros_dither_and_nothing_are_silent_but_a_whisper_is_not() -> None:
    assert is_silent(np.zeros(100, np.float32))
    assert is_silent(np.zeros(0, np.float32))
    assert is_silent(np.full(100, -1 / 32768, np.float32))
    assert not is_silent(np.array([0.0, -0.001, 0.0], np.float32))


def test_speech_is_any_token_but_the_blank() -> None:
    scores = log_probs([3, 3, 3], [3, 0, 3], [2, 2, 2])
    assert has_speech(scores, torch.tensor([3, 3, 3]), BLANK) == [False, True, True]


def test_padding_is_not_heard() -> None:
    assert has_speech(log_probs([3, 3, 0], [3, 0, 0]), torch.tensor([2, 1]), BLANK) == [False, False]


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_a_loop_leaves_one_copy(n: int) -> None:
    gram = list(range(n))
    copies = max(4, -(-8 // n))
    assert cut_loops([90, 91, *gram * copies]) == ([90, 91, *gram], True)


def test_a_loop_that_breaks_off_keeps_its_beginning() -> None:
    assert cut_loops([*[1, 2, 3] * 5, 1]) == ([1, 2, 3, 1], True)


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [7],
        [1] * 7,  # "no no no no no no no": fewer than 8 tokens
        [1, 2, 3] * 3,  # three times is emphasis
        [*[1, 2] * 6, 3],  # not at the end
        [*range(21)] * 4,  # longer than any loop looked for
        list(range(200)),
    ],
)
def test_what_is_no_loop_stays(tokens: list[int]) -> None:
    assert cut_loops(tokens) == (tokens, False)


def test_cutting_again_changes_nothing() -> None:
    once, _ = cut_loops([5, *[1, 2] * 30])
    assert cut_loops(once) == (once, False)


def hypothesis(tokens: list[int]) -> Hypothesis:
    return Hypothesis(tokens, -0.1, "en", None, [-0.1] * len(tokens))


def test_hypotheses_with_loops_are_decoded_again_and_no_others() -> None:
    asked = []

    def again(places: list[int]) -> list[Hypothesis]:
        asked.append(places)
        return [hypothesis([1, 2, 3])]

    found, looped = without_loops([hypothesis([5]), hypothesis([7] * 20), hypothesis([6])], again)
    assert [one.tokens for one in found] == [[5], [1, 2, 3], [6]]
    assert looped == [False, True, False]
    assert asked == [[1]]


def test_a_second_loop_leaves_the_first_one_cut() -> None:
    found, looped = without_loops([hypothesis([4, *[7] * 20])], lambda places: [hypothesis([8] * 9) for _ in places])
    assert found[0].tokens == [4, 7]
    assert found[0].log_probs == [-0.1, -0.1]
    assert looped == [True]


def test_without_loops_nothing_is_decoded_again() -> None:
    assert without_loops([hypothesis([5])], lambda places: pytest.fail("not needed")) == ([hypothesis([5])], [False])


def word(text: str, start: float, end: float, *ctc: float) -> AlignedWord:
    return AlignedWord(text, round(start * 16_000), round(end * 16_000), (-0.1,), ctc)


def blanks(seconds: float, *spikes: float) -> np.ndarray:
    """CTC frames `[J, 4]` that are blank but for spikes of token 0 at some seconds."""
    scores = np.full((round(seconds * 25), 4), -15.0, np.float32)
    scores[:, BLANK] = -1e-4
    for spike in spikes:
        scores[round(spike * 25)] = [-0.01, -15, -15, -6]
    return scores


SAID = [word("we", 0.1, 0.4, -0.1), word("went", 0.4, 0.9, -7.0, -9.0), word("home", 0.9, 1.4, -0.2)]
INVENTED = [word("thanks", 1.4, 1.9, -14.0), word("—", 1.9, 1.9), word("everybody", 1.9, 2.9, -13.0, -12.0, -14.0)]


def test_words_at_the_end_that_nobody_hears_are_cut() -> None:
    frames = blanks(3.0, 0.2, 0.6, 0.8, 1.2)
    assert supported_words([*SAID, *INVENTED], frames, BLANK, FRAME) == 3
    assert supported_words(SAID, frames, BLANK, FRAME) == 3


def test_an_unlikely_word_between_others_stays() -> None:
    assert supported_words(SAID, blanks(1.5, 0.2, 1.2), BLANK, FRAME) == 3


def test_where_ctc_hears_something_else_the_words_stay() -> None:
    assert supported_words([*SAID, *INVENTED], blanks(3.0, 0.2, 1.2, 1.6, 2.0, 2.4), BLANK, FRAME) == 6


def test_a_wholly_invented_segment_is_emptied() -> None:
    assert supported_words(INVENTED, blanks(3.0), BLANK, FRAME) == 0
    assert supported_words([], blanks(3.0), BLANK, FRAME) == 0
    assert supported_words([word("—", 0, 0)], blanks(3.0), BLANK, FRAME) == 1


def test_quiet_evidence_of_ctc_counts_only_where_the_detector_is_sure() -> None:
    spread = torch.tensor([[0.05, 0.05, 0.1, 0.8]] * 4).log()[None]  # the blank is likeliest; 0.8 tokens are expected
    length = torch.tensor([4])
    assert has_speech(spread, length, BLANK) == [False]
    assert may_be_speech(spread, length, BLANK, [0.99]) == [True]
    assert may_be_speech(spread, length, BLANK, [0.8]) == [False]
    assert may_be_speech(spread, torch.tensor([1]), BLANK, [0.99]) == [False], "padding does not count"
    assert is_sure(-0.3, looped=False)
    assert not is_sure(-0.3, looped=True)
    assert not is_sure(-1.5, looped=False)


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("and so it goes on and so it goes on", 5),
        ("first of all and so it goes on and so it goes on", 5),
        ("no no no no", 0),  # a copy of two words
        ("one two three one two three", 0),
        ("one two three four one two three five", 0),
        ("one two three four one two three four and", 0),  # goes on
        ("", 0),
    ],
)
def test_a_sentence_and_its_copy_are_found_at_the_end(text: str, copied: int) -> None:
    assert repeated_end(text.split()) == copied


def test_what_is_said_again_takes_nearly_as_long() -> None:
    assert not said_once(3.0, 2.6)
    assert not said_once(2.6, 3.0)
    assert said_once(3.0, 0.4)
    assert said_once(0.1, 3.0)


def test_repetitive_text_is_shorter_than_speech_to_zlib() -> None:
    speech = "He opened the door of the carriage, and a tall man stepped out into the rain without a word."
    assert 1.0 < compression_ratio(speech) < 2.4
    assert not is_repetitive(speech)
    assert is_repetitive("and then he said that she said and then he said that " * 6)
    assert compression_ratio("") == 1.0


def test_a_repetitive_text_without_a_loop_is_decoded_again() -> None:
    first = Hypothesis([1, 2, 3], -1.0, "en", None, [-1.0] * 3)
    second = Hypothesis([4, 5], -1.0, "en", None, [-1.0] * 2)
    found, looped = without_loops([first, first], lambda places: [second], lambda tokens: False)
    assert (found, looped) == ([first, first], [False, False])
    found, looped = without_loops([first], lambda places: [second], lambda tokens: tokens == [1, 2, 3])
    assert (found, looped) == ([second], [True])
