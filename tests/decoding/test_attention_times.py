"""Times from cross-attention: transformers' warping, weights and median, and words less the pauses between them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

from fun_asr.decoding.attention_times import _median, attention_weights, token_frames, warp, without_pauses
from fun_asr.layers.decoder import Decoder, DecoderConfig


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_path_is_that_of_transformers(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).normal(size=(rows, columns))
    ours, theirs = warp(costs), _dynamic_time_warping(costs)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_the_median_is_that_of_transformers() -> None:
    x = torch.randn(3, 5, 50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_median(x, 7), _median_filter(x, 7))


def test_weights_are_those_that_the_decoder_attends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = DecoderConfig(vocab_size=30, dim=16, num_layers=3, num_heads=2, ffn_dim=16, num_experts=0, max_tokens=20)
    decoder = Decoder(config).eval()
    encoded, tokens = torch.randn(2, 12, 16), torch.randint(0, 30, (2, 5))
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    found = attention_weights(decoder, tokens, encoded, mask, [(1, 0), (2, 1)])
    assert found.shape == (2, 2, 5, 12)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 2, 5))
    assert not found[1, :, :, 7:].any()
    # Head 1 of layer 2 alone reaches the output: what it adds is its weights times its values.
    block = decoder.blocks[2]
    attended = {}
    block.cross_attention.out.register_forward_hook(lambda _, args, __: attended.update(y=args[0]))
    with torch.inference_mode():
        decoder(tokens, encoded, mask)
        _, values = block.cross_attention.keys_values(encoded)
    torch.testing.assert_close(attended["y"][..., 8:], found[:, 1] @ values[:, 1], atol=1e-5, rtol=0)


def test_tokens_lie_where_a_head_looks() -> None:
    # Two tokens of a prompt, three of the text; the weights after the prompt's last token are the first one's.
    places = [0, 2, 10, 20, 28]
    weights = torch.full((1, 6, 40), 1e-3)
    for row, place in enumerate([*places, 35]):
        weights[0, row, place : place + 5] = 1.0
    starts = token_frames(weights, prompt=2, tokens=3, frames=40).starts
    assert len(starts) == 4
    assert starts[0] == 0 and all(
        abs(start - place) <= 5 for start, place in zip(starts[1:], [10, 20, 28], strict=True)
    )
    assert starts.tolist() == sorted(starts.tolist())


def test_frames_of_padding_have_no_tokens() -> None:
    weights = torch.rand(2, 9, 100, generator=torch.Generator().manual_seed(0))
    assert token_frames(weights, prompt=3, tokens=5, frames=12).starts.max() < 12


def looking(places: list[int], frames: int) -> torch.Tensor:
    """Weights of a head that looks at some frames from these places on, after a prompt of one token."""
    weights = torch.full((1, len(places) + 1, frames), 1e-3)
    for row, place in enumerate(places):
        weights[0, row, place : place + 8] = 1.0
    return weights


def test_a_point_seen_behind_the_pause_ends_its_word_before_it() -> None:
    # Two words of two tokens each, a pause in the frames 30 to 80; the point of the first one is seen behind it.
    weights = looking([2, 82, 95, 108, 118], 120)
    placed = token_frames(weights, 1, 4, 120, [(30, 80)], [True, False, True, False])
    assert placed.starts[0] == 0 and placed.ends[1] <= 30
    assert 80 <= placed.starts[2] <= 97 and placed.ends[3] > 100
    assert token_frames(weights, 1, 4, 120).ends[1] > 80


def test_a_word_before_a_pause_that_nothing_marks_ends_with_it() -> None:
    placed = token_frames(looking([2, 90, 118], 120), 1, 2, 120, [(30, 80)], [True, True])
    assert placed.ends[0] == 30 and placed.starts[1] == 80


def test_a_cough_between_two_pauses_is_given_no_word() -> None:
    placed = token_frames(looking([5, 12, 90, 105, 118], 120), 1, 4, 120, [(30, 50), (60, 80)], [True] * 4)
    for start, end in zip(placed.starts, placed.ends, strict=False):
        assert end <= 30 or start >= 80


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_whatever_heads_see_no_word_lies_over_a_pause(tokens: int, frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.unique(rng.integers(0, frames + 1, size=8)).tolist()
    pauses = list(zip(edges[::2], edges[1::2], strict=False))
    begins = (rng.random(tokens) < 0.5).tolist()
    weights = torch.from_numpy(rng.random((2, tokens + 1, frames), dtype=np.float32))
    placed = token_frames(weights, 1, tokens, frames, pauses, begins)
    words = [0, *[place for place in range(1, tokens) if begins[place]], tokens]
    assert len(placed.starts) == tokens + 1 and len(placed.ends) == tokens
    assert (placed.starts[:-1] <= placed.ends).all() and (placed.ends[:-1] <= placed.starts[1:-1]).all()
    if sum(end - start for start, end in pauses) < frames:
        for low, high in pairwise(words):
            assert all(placed.ends[high - 1] <= start or placed.starts[low] >= end for start, end in pauses)


def test_pauses_belong_to_no_word() -> None:
    rate = 16_000
    tone = 0.3 * np.sin(np.arange(rate // 2) * 0.3).astype(np.float32)
    quiet = np.zeros(rate // 2, np.float32)
    samples = np.concatenate([quiet, tone, quiet, tone, quiet])
    spans = without_pauses([(0, rate + 2000), (rate + 2000, len(samples))], samples)
    for (start, end), (first, last) in zip(spans, [(8_000, 16_000), (24_000, 32_000)], strict=True):
        assert abs(start - first) <= 480 and abs(end - last) <= 480


def test_words_without_pauses_meet() -> None:
    samples = (0.3 * np.sin(np.arange(16_000) * 0.3)).astype(np.float32)
    assert without_pauses([(0, 5000), (5000, 16_000)], samples) == [(0, 5000), (5000, 16_000)]


def test_the_first_word_starts_behind_the_silence_that_its_edge_lies_before() -> None:
    rate = 16_000
    tone = (0.3 * np.sin(np.arange(2 * rate) * 0.3)).astype(np.float32)
    samples = np.concatenate([np.zeros(2 * rate, np.float32), tone])
    (first, *_) = without_pauses([(3_000, 2 * rate + 8_000), (2 * rate + 8_000, 4 * rate)], samples)
    assert abs(first[0] - 2 * rate) <= 480
