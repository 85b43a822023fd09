"""Routing statistics against a recount of every token by hand, and that collecting them changes nothing."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fun_asr import Transcriber, load_model
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.generate import TOKENS_PER_SECOND, GenerateOptions, Hypothesis, generate
from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.layers.routing_stats import LayerRouting, collect_routing
from fun_asr.models.fun_asr.load import load_network
from fun_asr.text.tokenizer import Tokenizer
from fun_asr.weights.directory import TOKENIZER_FILE
from fun_asr.weights.precision import ComputeType

EXPERTS, CHOSEN = 4, 2
LENGTHS = [60, 11, 35, 4, 52]


@pytest.fixture(params=["float32", "int8"])
def decoder(request: pytest.FixtureRequest, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    monkeypatch.setattr(
        "fun_asr.models.fun_asr.load.bfloat16_is_fast", lambda device: False
    )  # float32 on every machine
    decoder = load_network(tiny_model_dir, torch.device("cpu"), ComputeType(request.param)).decoder
    draw = torch.Generator().manual_seed(2)
    for router in decoder.routers():
        router.balance_E.copy_(0.1 * torch.randn(EXPERTS, generator=draw))
    return decoder


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> Tokenizer:
    return Tokenizer(tiny_model_dir / TOKENIZER_FILE)


def encoded() -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(len(LENGTHS), max(LENGTHS), 16, generator=torch.Generator().manual_seed(5)), torch.tensor(
        LENGTHS
    )


def decode(decoder: Decoder, tokenizer: Tokenizer, beam_size: int = 1) -> list[Hypothesis]:
    languages = [None, "de", "en", None, "zh"]
    return generate(decoder, *encoded(), tokenizer, languages, GenerateOptions(beam_size=beam_size))


@torch.inference_mode()
def router_inputs(decoder: Decoder, tokens: list[int], memory: Tensor) -> Iterator[Tensor]:
    """Of each layer, `[S, D]`, computed for the whole sequence at once."""
    x = decoder.embedding(torch.tensor([tokens])) + decoder.positions[: len(tokens)]
    for block in decoder.blocks:
        x = x + block.self_attention(block.self_norm(x))
        x = x + block.cross_attention(block.cross_norm(x), *block.cross_attention.keys_values(memory), None)
        normed = block.ffn_norm(x)
        yield normed[0]
        x = x + block.ffn(normed)


def recount(
    decoder: Decoder, tokenizer: Tokenizer, hypotheses: list[Hypothesis]
) -> tuple[list[list[int]], list[float], int]:
    """Load and mean entropy of each layer, and the tokens, of each hypothesis by itself, token by token."""
    loads = [[0] * EXPERTS for _ in decoder.blocks]
    entropies = [0.0] * len(loads)
    total = 0
    for row, length, hypothesis in zip(encoded()[0], LENGTHS, hypotheses, strict=True):
        prompt = tokenizer.prompt(hypothesis.language)
        limit = min(
            int(8 + TOKENS_PER_SECOND * length / ENCODER_FRAMES_PER_SECOND), decoder.config.max_tokens - len(prompt)
        )
        read = hypothesis.tokens[: limit - 1]  # nothing is predicted after the last token that the limit allows
        total += len(read)
        for layer, x_SD in enumerate(router_inputs(decoder, prompt + read, row[None, :length])):
            router = decoder.routers()[layer]
            for x in x_SD[len(prompt) :]:
                logits = [sum(a * b for a, b in zip(w, x.tolist(), strict=True)) for w in router.gate.weight.tolist()]
                exponentials = [math.exp(logit) for logit in logits]
                probabilities = [value / sum(exponentials) for value in exponentials]
                entropies[layer] -= sum(p * math.log(p) for p in probabilities)
                scores = [p + b for p, b in zip(probabilities, router.balance_E.tolist(), strict=True)]
                for expert in sorted(range(EXPERTS), key=lambda e: -scores[e])[:CHOSEN]:
                    loads[layer][expert] += 1
    return loads, [entropy / total for entropy in entropies], total


def test_counts_and_entropy_equal_a_recount(decoder: Decoder, tokenizer: Tokenizer) -> None:
    with collect_routing(decoder) as layers:
        hypotheses = decode(decoder, tokenizer)
    lengths = {len(hypothesis.tokens) for hypothesis in hypotheses}
    assert len(lengths) > 2, "hypotheses should leave the batch one by one"
    loads, entropies, tokens = recount(decoder, tokenizer, hypotheses)
    assert [layer.layer for layer in layers] == [0, 1]
    for layer, load, entropy in zip(layers, loads, entropies, strict=True):
        assert layer.tokens == tokens
        assert layer.load == load
        assert sum(layer.load) == CHOSEN * tokens
        assert layer.entropy == pytest.approx(entropy, rel=1e-3)
        assert layer.entropy_share == pytest.approx(entropy / math.log(EXPERTS), rel=1e-3)
        assert layer.max_over_mean == pytest.approx(max(load) / (CHOSEN * tokens / EXPERTS))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_hypotheses_are_the_same_while_collecting(decoder: Decoder, tokenizer: Tokenizer, beam_size: int) -> None:
    before = decode(decoder, tokenizer, beam_size)
    with collect_routing(decoder) as layers:
        assert decode(decoder, tokenizer, beam_size) == before
    for layer in layers:
        assert sum(layer.load) == CHOSEN * layer.tokens > 0


def test_nothing_is_left_on_the_decoder(decoder: Decoder, tokenizer: Tokenizer) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in decoder.modules())

    with collect_routing(decoder) as layers:
        assert hooks() > 0
        decode(decoder, tokenizer)
    assert hooks() == 0
    counted = [layer.load for layer in layers]
    decode(decoder, tokenizer)
    assert [layer.load for layer in layers] == counted
    with pytest.raises(KeyError), collect_routing(decoder):
        raise KeyError
    assert hooks() == 0


def test_nested_blocks_count_each_for_itself(decoder: Decoder, tokenizer: Tokenizer) -> None:
    with collect_routing(decoder) as outer:
        decode(decoder, tokenizer)
        with collect_routing(decoder) as inner:
            decode(decoder, tokenizer)
    assert [layer.load for layer in outer] == [[2 * count for count in layer.load] for layer in inner]


def test_an_expert_that_its_bias_shuts_out_is_dead(decoder: Decoder, tokenizer: Tokenizer) -> None:
    for router in decoder.routers():
        router.balance_E.zero_()
    decoder.routers()[1].balance_E[2] = -2.0
    with collect_routing(decoder) as layers:
        decode(decoder, tokenizer)
    assert 2 not in layers[0].dead
    assert 2 in layers[1].dead
    assert layers[1].load[2] == 0


def test_a_router_without_preference_has_the_largest_entropy(decoder: Decoder, tokenizer: Tokenizer) -> None:
    for router in decoder.routers():
        router.balance_E.zero_()
        router.gate.weight.data.zero_()
    with collect_routing(decoder) as layers:
        decode(decoder, tokenizer)
    for layer in layers:
        # The lowest indices win a tie.
        assert layer.load == [layer.tokens, layer.tokens, 0, 0]
        assert layer.dead == [2, 3]
        assert layer.max_over_mean == EXPERTS / CHOSEN
        assert (layer.entropy, layer.entropy_share) == pytest.approx((math.log(EXPERTS), 1.0))


def test_whole_sequences_do_not_count(decoder: Decoder) -> None:
    with torch.inference_mode(), collect_routing(decoder) as layers:
        decoder(torch.zeros(2, 5, dtype=torch.int64), encoded()[0][:2])
    assert [layer.tokens for layer in layers] == [0, 0]


def test_without_tokens_nothing_is_undefined() -> None:
    layer = LayerRouting(0, EXPERTS)
    assert (layer.load, layer.dead) == ([0] * EXPERTS, list(range(EXPERTS)))
    assert (layer.max_over_mean, layer.entropy, layer.entropy_share) == (0.0, 0.0, 0.0)
    assert LayerRouting(0, 1).entropy_share == 0.0


@pytest.mark.parametrize("compute_type", ["float32", "int8", "bfloat16"])
def test_transcripts_are_the_same_while_collecting(tiny_model_dir: Path, compute_type: str) -> None:
    model = load_model(tiny_model_dir, device="cpu", compute_type=compute_type)
    samples = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    before = model.transcribe_samples(samples)
    with model.collect_routing() as layers:
        assert model.transcribe_samples(samples) == before
    assert all(sum(layer.load) == CHOSEN * layer.tokens > 0 for layer in layers)


def test_silence_does_not_count(tiny_model_dir: Path) -> None:
    model: Transcriber = load_model(tiny_model_dir, device="cpu", compute_type="float32")
    with model.collect_routing() as layers:
        model.transcribe_samples(np.zeros(SAMPLE_RATE, np.float32))
    assert [layer.tokens for layer in layers] == [0, 0]
