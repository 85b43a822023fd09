"""Greedy search with transducers: the batch against a plain loop, and the steps that could go on for ever."""

import pytest
import torch
from torch import Tensor

from fun_asr.decoding.frames import Emission
from fun_asr.decoding.transducer import greedy

VOCABULARY, BLANK, WIDTH = 7, 6, 12


class Network:
    """A transducer with a memory of its tokens."""

    def __init__(self, seed: int, outputs: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(VOCABULARY, WIDTH, generator=generator)
        self.head = 0.7 * torch.randn(outputs, WIDTH, generator=generator)
        self.bias = torch.zeros(outputs)
        self.calls = 0

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(rows, WIDTH), torch.zeros(rows, WIDTH)

    def predict(self, tokens_B: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        self.calls += 1
        hidden = 0.5 * state[0] + self.embedding[tokens_B]
        return hidden.tanh(), (hidden, state[1] + 1)

    def joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        return (encoded + predicted).relu() @ self.head.T + self.bias


def plainly(network: Network, frames: Tensor, durations: tuple[int, ...], most: int) -> list[tuple[int, int, int]]:
    """One utterance, a step at a time: token, frame, duration."""
    predicted, state = network.predict(torch.tensor([BLANK]), network.start(1))
    found, t, here = [], 0, 0
    while t < len(frames):
        logits = network.joint(frames[t][None], predicted)[0]
        token = int(logits[:VOCABULARY].argmax())
        step = durations[int(logits[VOCABULARY:].argmax())] if durations else int(token == BLANK)
        if token == BLANK:
            t, here = t + max(step, 1), 0
            continue
        found.append((token, t, step))
        predicted, state = network.predict(torch.tensor([token]), state)
        here = here + 1 if step == 0 else 0
        t += step
        if here == most:
            t, here = t + 1, 0
    return found


@pytest.mark.parametrize("durations", [(), (0, 1, 2, 3, 4)], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_finds_what_a_plain_loop_finds(seed: int, durations: tuple[int, ...]) -> None:
    network = Network(seed, VOCABULARY + len(durations))
    lengths = [40, 0, 1, 23, 40]
    encoded = torch.randn(5, 40, WIDTH, generator=torch.Generator().manual_seed(seed))
    found = greedy(
        network, encoded, torch.tensor(lengths), blank=BLANK, vocab_size=VOCABULARY, durations=durations, max_symbols=3
    )
    for row, frames, length in zip(found, encoded, lengths, strict=True):
        expected = plainly(network, frames[:length], durations, 3)
        assert [(token.token, token.start) for token in row] == [(token, frame) for token, frame, _ in expected]
        spans = [token.end - token.start for token in row]
        assert spans == [min(step, length - frame) if durations else 1 for _, frame, step in expected]
        assert all(token.log_prob <= 0 for token in row)


def test_a_blank_without_a_duration_goes_on_by_a_frame() -> None:
    network = Network(0, VOCABULARY + 2)
    network.head.zero_()
    network.bias[BLANK] = network.bias[VOCABULARY] = 5.0
    encoded = torch.randn(1, 30, WIDTH)
    found = greedy(
        network, encoded, torch.tensor([30]), blank=BLANK, vocab_size=VOCABULARY, durations=(0, 1), max_symbols=10
    )
    assert found == [[]]


@pytest.mark.parametrize("durations", [(), (0, 1)], ids=["rnnt", "tdt"])
def test_tokens_without_an_end_stop_at_ten_a_frame(durations: tuple[int, ...]) -> None:
    network = Network(0, VOCABULARY + len(durations))
    network.head.zero_()
    network.bias[2] = 5.0
    if durations:
        network.bias[VOCABULARY] = 5.0
    found = greedy(
        network, torch.zeros(1, 4, WIDTH), torch.tensor([4]), blank=BLANK, vocab_size=VOCABULARY, durations=durations
    )
    assert [token.start for token in found[0]] == [frame for frame in range(4) for _ in range(10)]
    assert isinstance(found[0][0], Emission)
