"""The hybrid decoder-only network here and in transformers: the same logits, and tokens alone and in batches."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import NemotronHConfig, NemotronHForCausalLM

from fun_asr.decoding.prefixed import PrefixedOptions, continue_prefixes
from fun_asr.decoding.search import Hypothesis
from fun_asr.layers.hybrid_lm import HybridLM
from fun_asr.models.hybrid_lm import HybridNames, hybrid_lm_recipes, hybrid_lm_shapes, read_hybrid_lm
from fun_asr.models.published import Values
from tests.models.reference import randomise, shapes_of, worst

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "hybrid_override_pattern": "ME*-EM*",
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 24, "mamba_num_heads": 6, "mamba_head_dim": 4, "ssm_state_size": 5, "n_groups": 3,
    "chunk_size": 8, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 12,
    "moe_shared_expert_intermediate_size": 20, "routed_scaling_factor": 2.5,
}  # fmt: skip
LENGTHS = (5, 21, 1, 8)
END = 96
NAMES = HybridNames()


@cache
def pair() -> tuple[Any, HybridLM]:
    """A model of transformers, and ours with its weights."""
    reference = NemotronHForCausalLM(NemotronHConfig(**SIZES)).eval()
    randomise(reference, 7, 0.3)
    config = read_hybrid_lm(Values(reference.config.to_dict(), "config.json"))
    state = dict(reference.state_dict())
    expected = hybrid_lm_shapes(config, "model.", "lm_head", NAMES)
    assert expected == {name: tuple(tensor.shape) for name, tensor in state.items()}
    ours = HybridLM(config).eval()
    recipes = hybrid_lm_recipes(config, "", "model.", "lm_head", NAMES)
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


def written(ours: HybridLM, parts: list[Tensor], **options: Any) -> list[Hypothesis]:
    lengths = [len(part) for part in parts]
    limits = [options.pop("limit", 40)] * len(parts)
    return continue_prefixes(ours, torch.cat(parts), lengths, limits, PrefixedOptions(**{"stop": (END,), **options}))


def test_logits_equal_transformers_for_packed_segments() -> None:
    reference, ours = pair()
    parts = prefixes(32)
    with torch.inference_mode():
        together = ours.logits(ours(torch.cat(parts), LENGTHS)).split(LENGTHS)
        for part, found in zip(parts, together, strict=True):
            assert worst(found, reference(inputs_embeds=part[None]).logits[0]) < 1e-4


def test_greedy_tokens_equal_transformers_alone_and_in_a_batch() -> None:
    reference, ours = pair()
    generator = torch.Generator().manual_seed(4)
    texts = [torch.randint(0, END, (length,), generator=generator) for length in LENGTHS]
    parts = [ours.embed(text).detach() for text in texts]
    together = written(ours, parts, suppress=(END,))
    for text, part, batched in zip(texts, parts, together, strict=True):
        ids = reference.generate(
            input_ids=text[None], attention_mask=torch.ones(1, len(text), dtype=torch.long), max_new_tokens=40,
            do_sample=False, eos_token_id=END, pad_token_id=END, suppress_tokens=[END],
        )  # fmt: skip
        theirs = ids[0, len(text) :].tolist()
        assert len(theirs) == 40 and len(set(theirs)) > 5
        (alone,) = written(ours, [part], suppress=(END,))
        assert alone.tokens == batched.tokens == theirs


def test_segments_that_end_early_leave_the_others_as_they_are() -> None:
    _, ours = pair()
    parts = prefixes(32)
    stop = written(ours, parts[1:2], suppress=(END,))[0].tokens[3]
    together = written(ours, parts, stop=(stop,))
    assert len({len(found.tokens) for found in together}) > 1
    for part, batched in zip(parts, together, strict=True):
        assert written(ours, [part], stop=(stop,))[0].tokens == batched.tokens


def test_a_beam_carries_the_states_of_its_hypotheses() -> None:
    """Against a search without a cache: what is kept after each step is read again from the start."""
    _, ours = pair()
    width, steps = 3, 6
    parts = prefixes(32)
    together = written(ours, parts, beam_size=width, suppress=(END,), limit=steps)
    for part, found in zip(parts, together, strict=True):
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        with torch.inference_mode():
            for _ in range(steps):
                extended = []
                for score, tokens in beams:
                    text = torch.cat((part, ours.embed(torch.tensor(tokens, dtype=torch.long))))
                    logits = ours.logits(ours(text, [len(text)])[-1])
                    logits[END] = -torch.inf
                    log_probs = logits.log_softmax(dim=-1)
                    extended += [(score + float(p), [*tokens, token]) for token, p in enumerate(log_probs)]
                beams = sorted(extended, key=lambda item: -item[0])[:width]
        assert found.tokens == beams[0][1]
