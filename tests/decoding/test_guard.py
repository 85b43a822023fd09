"""The guard: silence, speech by CTC, and loops."""

import numpy as np
import pytest
import torch

from fun_asr.decoding.guard import cut_loops, has_speech, is_silent

BLANK = 3


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
