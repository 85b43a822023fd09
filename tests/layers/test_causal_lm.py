"""The decoder-only transformer here and in transformers: the same logits, and the same tokens alone and in batches."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from fun_asr.decoding.prefixed import PrefixedOptions, continue_prefixes
from fun_asr.decoding.search import Hypothesis
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.models.causal_lm import causal_lm_recipes, causal_lm_shapes, read_causal_lm
from fun_asr.models.published import Values
from tests.models.reference import randomise, shapes_of, worst

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 48, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
}  # fmt: skip
LENGTHS = (5, 11, 1, 8)
END = 96


def reference_model(kind: str) -> Any:
    if kind == "moe":
        config = Qwen3MoeConfig(
            **SIZES, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=20, mlp_only_layers=[1],
            norm_topk_prob=True, tie_word_embeddings=False,
        )  # fmt: skip
        return Qwen3MoeForCausalLM(config)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=True))


@cache
def pair(kind: str) -> tuple[Any, CausalLM]:
    """A model of transformers, and ours with its weights."""
    reference = reference_model(kind).eval()
    randomise(reference, 7, 0.4)
    config = read_causal_lm(Values(reference.config.to_dict(), "config.json"))
    state = dict(reference.state_dict())
    fused = any("gate_up_proj" in name for name in state)
    assert causal_lm_shapes(config, "model.", "lm_head", fused_experts=fused) == {
        name: tuple(tensor.shape) for name, tensor in state.items() if name != "lm_head.weight" or not config.tied
    }
    ours = CausalLM(config).eval()
    recipes = causal_lm_recipes(config, "", "model.", "lm_head", fused_experts=fused)
    shapes = shapes_of(ours)
    ours.load_state_dict(
        {
            name: recipe.make([state[part] for part in recipe.names]).reshape(shapes[name])
            for name, recipe in recipes.items()
        }
    )
    return reference, ours


def prefixes(width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(length, width, generator=generator) for length in LENGTHS]


def written(ours: CausalLM, parts: list[Tensor], **options: Any) -> list[Hypothesis]:
    lengths = [len(part) for part in parts]
    limits = [options.pop("limit", 40)] * len(parts)
    return continue_prefixes(ours, torch.cat(parts), lengths, limits, PrefixedOptions(**{"stop": (END,), **options}))


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_logits_equal_transformers_for_packed_segments(kind: str) -> None:
    reference, ours = pair(kind)
    parts = prefixes(32)
    with torch.inference_mode():
        together = ours.logits(ours(torch.cat(parts), LENGTHS)).split(LENGTHS)
        for part, found in zip(parts, together, strict=True):
            assert worst(found, reference(inputs_embeds=part[None]).logits[0]) < 1e-4


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_greedy_tokens_equal_transformers_alone_and_in_a_batch(kind: str) -> None:
    reference, ours = pair(kind)
    parts = prefixes(32)
    together = written(ours, parts, suppress=(END,))
    for part, batched in zip(parts, together, strict=True):
        theirs = reference.generate(
            inputs_embeds=part[None], attention_mask=torch.ones(1, len(part), dtype=torch.long), max_new_tokens=40,
            do_sample=False, eos_token_id=END, pad_token_id=END, suppress_tokens=[END],
        )[0].tolist()  # fmt: skip
        assert len(theirs) == 40 and len(set(theirs)) > 5
        (alone,) = written(ours, [part], suppress=(END,))
        assert alone.tokens == batched.tokens == theirs


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_the_log_probability_of_every_token_is_that_of_one_pass_over_the_text(kind: str) -> None:
    _, ours = pair(kind)
    parts = prefixes(32)
    for part, found in zip(parts, written(ours, parts, limit=12, suppress=(1, 2, END)), strict=True):
        with torch.inference_mode():
            text = ours.embed(torch.tensor(found.tokens))
            logits = ours.logits(ours(torch.cat((part, text)), [len(part) + len(text)]))[len(part) - 1 : -1]
            logits[:, [1, 2, END]] = -torch.inf
            expected = logits.log_softmax(dim=-1).gather(1, torch.tensor(found.tokens)[:, None])[:, 0]
        assert worst(torch.tensor(found.log_probs), expected) < 1e-4


def exhaustive(ours: CausalLM, part: Tensor, width: int, steps: int) -> list[list[int]]:
    """Beam search without a cache: what is kept after each step is read again from the start."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(steps):
        extended = []
        for score, tokens in beams:
            text = torch.cat((part, ours.embed(torch.tensor(tokens, dtype=torch.long))))
            logits = ours.logits(ours(text, [len(text)])[-1])
            logits[END] = -torch.inf
            log_probs = logits.log_softmax(dim=-1)
            extended += [(score + float(log_probs[token]), [*tokens, token]) for token in range(len(log_probs))]
        beams = sorted(extended, key=lambda item: -item[0])[:width]
    return [tokens for _, tokens in beams]


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_beam_search_of_a_batch_finds_what_reading_every_hypothesis_again_finds(kind: str) -> None:
    _, ours = pair(kind)
    parts = prefixes(32)
    found = written(ours, parts, beam_size=4, limit=9, suppress=(END,))
    with torch.inference_mode():
        for part, hypothesis in zip(parts, found, strict=True):
            expected = exhaustive(ours, part, 4, 9)
            assert [hypothesis.tokens, *(other.tokens for other in hypothesis.others)] == expected


def test_segments_that_end_at_different_times_leave_the_others_as_they_are() -> None:
    _, ours = pair("dense")
    parts = prefixes(32)
    for beam_size in (1, 3):
        alone = [written(ours, [part], beam_size=beam_size)[0] for part in parts]
        # Whatever comes often ends a text, so that all texts end at different places.
        common = max(range(END), key=lambda token: sum(token in found.tokens[3:] for found in alone))
        options: dict[str, Any] = {"beam_size": beam_size, "stop": (END, common)}
        alone = [written(ours, [part], **options)[0] for part in parts]
        assert len({len(found.tokens) for found in alone}) > 2
        for one, batched in zip(alone, written(ours, parts, **options), strict=True):
            assert batched.tokens == one.tokens
            assert batched.score == pytest.approx(one.score, abs=1e-5)


def test_suppressed_tokens_and_repetitions_are_not_written() -> None:
    _, ours = pair("dense")
    parts = prefixes(32)
    free = written(ours, parts)
    first = free[0].tokens[0]
    assert first not in written(ours, parts, suppress=(first,))[0].tokens
    assert written(ours, parts, suppress_first=(first,))[0].tokens[0] != first
    for found in written(ours, parts, no_repeat_ngram=2):
        pairs = list(zip(found.tokens, found.tokens[1:], strict=False))
        assert len(pairs) == len(set(pairs))
