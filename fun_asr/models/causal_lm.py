"""Qwen3's decoder-only transformer as it is published: its sizes in a configuration, and its tensors.

Shapes: H query heads, G key heads, d width of a head, E experts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError
from fun_asr.layers.causal_lm import CausalLMConfig
from fun_asr.models.published import Values
from fun_asr.weights.assemble import Recipe

__all__ = [
    "MAX_DIM",
    "MAX_FFN",
    "MAX_HEADS",
    "MAX_LAYERS",
    "MAX_VOCABULARY",
    "causal_lm_recipes",
    "causal_lm_shapes",
    "read_causal_lm",
]

# Several times the largest that were published: beyond them a configuration is damaged, or made to exhaust memory.
MAX_DIM, MAX_FFN, MAX_LAYERS, MAX_VOCABULARY, MAX_HEADS, MAX_EXPERTS = 65_536, 262_144, 512, 2**22, 1024, 4096
ROPE_THETA = 10_000.0  # where none is written

PUBLISHED_DEFAULTS = CausalLMConfig(
    dim=4096, num_layers=32, num_heads=32, num_key_heads=32, ffn_dim=22_016, tied=False, rope_theta=ROPE_THETA
)
"""What transformers leaves out of a `config.json` of Qwen3."""


def read_causal_lm(
    values: Values, defaults: CausalLMConfig = PUBLISHED_DEFAULTS, *, tied: bool | None = None, experts: bool = True
) -> CausalLMConfig:
    """The sizes in the part of a `config.json` that describes a language model.

    Arguments:
        values: that part.
        defaults: for what it does not say.
        tied: whether the output projection is the embedding, where the whole model's configuration says it.
        experts: whether the model has any; some published configurations of dense models say how many there would be.

    Raises:
        CheckpointError: naming the key, for what is absurd or not built here.
    """
    values.fixed("hidden_act", "silu")
    values.fixed("use_sliding_window", False)
    num_layers = values.integer("num_hidden_layers", defaults.num_layers, 1, MAX_LAYERS)
    num_heads = values.integer("num_attention_heads", defaults.num_heads, 1, MAX_HEADS)
    num_key_heads = values.integer("num_key_value_heads", defaults.num_key_heads, 1, MAX_HEADS)
    if num_heads % num_key_heads:
        raise CheckpointError(f"{values.where}: {num_key_heads} key heads do not share {num_heads} query heads")
    dim = values.integer("hidden_size", defaults.dim, 1, MAX_DIM)
    head_dim = values.integer("head_dim", defaults.head_dim or dim // num_heads, 2, MAX_DIM)
    if head_dim % 2:
        raise values.wrong("head_dim", "even")
    key = "num_local_experts" if "num_local_experts" in values else "num_experts"
    num_experts = values.integer(key, defaults.num_experts, 0, MAX_EXPERTS) if experts else 0
    every = values.integer("decoder_sparse_step", 1, 1, MAX_LAYERS)
    dense = set(values.integers("mlp_only_layers", (), 0, num_layers - 1))
    dense |= {layer for layer in range(num_layers) if (layer + 1) % every}
    return CausalLMConfig(
        vocab_size=values.integer("vocab_size", defaults.vocab_size, 2, MAX_VOCABULARY),
        dim=dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_key_heads=num_key_heads,
        head_dim=head_dim,
        ffn_dim=values.integer("intermediate_size", defaults.ffn_dim, 1, MAX_FFN),
        num_experts=num_experts,
        num_experts_per_token=values.integer("num_experts_per_tok", defaults.num_experts_per_token, 1, num_experts)
        if num_experts
        else defaults.num_experts_per_token,
        expert_dim=values.integer("moe_intermediate_size", defaults.expert_dim, 1, MAX_FFN),
        renormalise=values.flag("norm_topk_prob", defaults.renormalise),
        dense_layers=tuple(sorted(dense)) if num_experts else (),
        norm_eps=values.number("rms_norm_eps", defaults.norm_eps, 0.0, 1.0),
        rope_theta=_rope_theta(values, defaults.rope_theta),
        attention_bias=values.flag("attention_bias", defaults.attention_bias),
        tied=values.flag("tie_word_embeddings", defaults.tied) if tied is None else tied,
    )


def _rope_theta(values: Values, default: float) -> float:
    """The base of the angles; positions on several axes, which are equal for audio and text, are plain ones."""
    for key in ("rope_parameters", "rope_scaling"):
        inner = values.inner(key)
        for name in ("rope_type", "type"):
            if name in inner and inner.text(name, "default") not in ("default", "mrope"):
                inner.fixed(name, "default")
        if "rope_theta" in inner:
            return inner.number("rope_theta", default, 1.0, 1e12)
    return values.number("rope_theta", default, 1.0, 1e12)


def causal_lm_shapes(
    config: CausalLMConfig, prefix: str, head: str, *, fused_experts: bool = False
) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by its published name.

    Arguments:
        config: the sizes.
        prefix: before the names of the layers, such as "model.".
        head: the output projection's name without ".weight".
        fused_experts: whether each layer has one tensor of all experts, not three of each expert.
    """
    dim, d = config.dim, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}embed_tokens.weight": (config.vocab_size, dim)}
    for layer in range(config.num_layers):
        name = f"{prefix}layers.{layer}"
        for part, heads in (("q", config.num_heads), ("k", config.num_key_heads), ("v", config.num_key_heads)):
            shapes[f"{name}.self_attn.{part}_proj.weight"] = (heads * d, dim)
            if config.attention_bias:
                shapes[f"{name}.self_attn.{part}_proj.bias"] = (heads * d,)
        shapes[f"{name}.self_attn.o_proj.weight"] = (dim, config.num_heads * d)
        if config.attention_bias:
            shapes[f"{name}.self_attn.o_proj.bias"] = (dim,)
        shapes[f"{name}.self_attn.q_norm.weight"] = shapes[f"{name}.self_attn.k_norm.weight"] = (d,)
        shapes[f"{name}.input_layernorm.weight"] = shapes[f"{name}.post_attention_layernorm.weight"] = (dim,)
        if not config.has_experts(layer):
            shapes |= _feed_forward_shapes(f"{name}.mlp", dim, config.ffn_dim)
            continue
        shapes[f"{name}.mlp.gate.weight"] = (config.num_experts, dim)
        if fused_experts:
            shapes[f"{name}.mlp.experts.gate_up_proj"] = (config.num_experts, 2 * config.expert_dim, dim)
            shapes[f"{name}.mlp.experts.down_proj"] = (config.num_experts, dim, config.expert_dim)
        else:
            for expert in range(config.num_experts):
                shapes |= _feed_forward_shapes(f"{name}.mlp.experts.{expert}", dim, config.expert_dim)
    shapes[f"{prefix}norm.weight"] = (dim,)
    if not config.tied:
        shapes[f"{head}.weight"] = (config.vocab_size, dim)
    return shapes


def _feed_forward_shapes(name: str, dim: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.gate_proj.weight": (hidden, dim),
        f"{name}.up_proj.weight": (hidden, dim),
        f"{name}.down_proj.weight": (dim, hidden),
    }


def causal_lm_recipes(
    config: CausalLMConfig, ours: str, prefix: str, head: str, *, fused_experts: bool = False
) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.layers.causal_lm.CausalLM` comes of published tensors.

    Arguments:
        config, prefix, head, fused_experts: as for `causal_lm_shapes`.
        ours: before the names of the parameters, such as "language_model."; "" where the model stands alone.
    """
    recipes = {
        f"{ours}embedding.weight": Recipe((f"{prefix}embed_tokens.weight",)),
        f"{ours}norm.weight": Recipe((f"{prefix}norm.weight",)),
    }
    if not config.tied:
        recipes[f"{ours}head.weight"] = Recipe((f"{head}.weight",))
    for layer in range(config.num_layers):
        here, there = f"{ours}layers.{layer}", f"{prefix}layers.{layer}"
        for part in ("weight", "bias") if config.attention_bias else ("weight",):
            recipes[f"{here}.attention.qkv.{part}"] = Recipe(tuple(f"{there}.self_attn.{p}_proj.{part}" for p in "qkv"))
            recipes[f"{here}.attention.out.{part}"] = Recipe((f"{there}.self_attn.o_proj.{part}",))
        recipes[f"{here}.attention.norm.weight"] = Recipe(
            (f"{there}.self_attn.q_norm.weight", f"{there}.self_attn.k_norm.weight"), _a_weight_a_head(config)
        )
        recipes[f"{here}.attention_norm.weight"] = Recipe((f"{there}.input_layernorm.weight",))
        recipes[f"{here}.ffn_norm.weight"] = Recipe((f"{there}.post_attention_layernorm.weight",))
        if not config.has_experts(layer):
            gate_up = tuple(f"{there}.mlp.{part}_proj.weight" for part in ("gate", "up"))
            recipes[f"{here}.ffn.gate_up.weight"] = Recipe(gate_up)
            recipes[f"{here}.ffn.down.weight"] = Recipe((f"{there}.mlp.down_proj.weight",))
            continue
        experts = [f"{there}.mlp.experts.{expert}" for expert in range(config.num_experts)]
        gate_up = tuple(f"{name}.{part}_proj.weight" for name in experts for part in ("gate", "up"))
        down = tuple(f"{name}.down_proj.weight" for name in experts)
        if fused_experts:
            gate_up, down = (f"{there}.mlp.experts.gate_up_proj",), (f"{there}.mlp.experts.down_proj",)
        recipes[f"{here}.ffn.router"] = Recipe((f"{there}.mlp.gate.weight",))
        recipes[f"{here}.ffn.experts.gate_up_EHD"] = Recipe(gate_up)
        recipes[f"{here}.ffn.experts.down_EDF"] = Recipe(down)
    return recipes


def _a_weight_a_head(config: CausalLMConfig) -> Callable[[list[Tensor]], Tensor]:
    """What makes of the weights `[d]` of queries and of keys those of all heads, `[H + G, d]`."""
    heads = config.num_heads, config.num_key_heads
    return lambda parts: torch.cat([part.expand(count, -1) for part, count in zip(parts, heads, strict=True)])
