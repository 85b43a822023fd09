"""Nemotron-H's network as it is published: its sizes in a configuration, and its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fun_asr.errors import CheckpointError
from fun_asr.layers.hybrid_lm import KINDS, HybridLMConfig, LayerKind
from fun_asr.layers.mamba2 import Mamba2Config
from fun_asr.models.causal_lm import MAX_DIM, MAX_EXPERTS, MAX_FFN, MAX_HEADS, MAX_LAYERS, MAX_VOCABULARY
from fun_asr.models.published import Values
from fun_asr.weights.assemble import Recipe

__all__ = ["HybridNames", "find_hybrid_names", "hybrid_lm_recipes", "hybrid_lm_shapes", "read_hybrid_lm"]

LAYER_TYPES: dict[str, LayerKind] = {
    "linear_attention": "state",
    "mamba": "state",
    "full_attention": "attention",
    "attention": "attention",
    "moe": "experts",
    "mlp": "dense",
}
MAX_CHUNK, MAX_TAPS = 4096, 64


@dataclass(frozen=True)
class HybridNames:
    """What those who write the tensors do not agree on."""

    embedding: str = "embeddings"
    norm: str = "norm_f"
    state: str = ""
    """Before the names of a state-space layer's float32 parameters."""
    fused_experts: bool = True
    """Whether each expert layer has two tensors of all experts, not two of each expert."""


def find_hybrid_names(names: Iterable[str], prefix: str) -> HybridNames:
    """What the parts are called, by the names of the tensors; `prefix` is before those of the layers."""
    known = set(names)
    return HybridNames(
        embedding="embed_tokens" if f"{prefix}embed_tokens.weight" in known else "embeddings",
        norm="norm" if f"{prefix}norm.weight" in known else "norm_f",
        state="_fp32_params." if any(name.endswith("._fp32_params.A_log") for name in known) else "",
        fused_experts=any(name.endswith(".experts.up_proj") for name in known),
    )


def read_hybrid_lm(values: Values, defaults: HybridLMConfig | None = None) -> HybridLMConfig:
    """The sizes in the part of a `config.json` that describes a language model.

    Arguments:
        values: that part.
        defaults: for what it does not say.

    Raises:
        CheckpointError: naming the key, for what is absurd or not built here.
    """
    defaults = defaults or HybridLMConfig()
    values.fixed("mlp_hidden_act", "relu2")
    values.fixed("mamba_hidden_act", "silu")
    values.fixed("attention_bias", False)
    values.fixed("tie_word_embeddings", False)
    values.fixed("moe_latent_size", None)
    values.fixed("n_group", 1)
    values.fixed("topk_group", 1)
    values.fixed("sliding_window", None)
    dim = values.integer("hidden_size", defaults.dim, 1, MAX_DIM)
    num_heads = values.integer("num_attention_heads", defaults.num_heads, 1, MAX_HEADS)
    num_key_heads = values.integer("num_key_value_heads", defaults.num_key_heads, 1, MAX_HEADS)
    if num_heads % num_key_heads:
        raise CheckpointError(f"{values.where}: {num_key_heads} key heads do not share {num_heads} query heads")
    num_experts = values.integer("n_routed_experts", defaults.num_experts, 1, MAX_EXPERTS)
    eps = values.number("layer_norm_epsilon", defaults.norm_eps, 0.0, 1.0)
    return HybridLMConfig(
        vocab_size=values.integer("vocab_size", defaults.vocab_size, 2, MAX_VOCABULARY),
        dim=dim,
        layers=_layers(values, defaults.layers),
        state=_state(values, defaults.state, dim, eps),
        num_heads=num_heads,
        num_key_heads=num_key_heads,
        head_dim=values.integer("head_dim", defaults.head_dim, 1, MAX_DIM),
        ffn_dim=values.integer("intermediate_size", defaults.ffn_dim, 1, MAX_FFN),
        num_experts=num_experts,
        num_experts_per_token=values.integer("num_experts_per_tok", defaults.num_experts_per_token, 1, num_experts),
        expert_dim=values.integer("moe_intermediate_size", defaults.expert_dim, 1, MAX_FFN),
        shared_dim=values.integer("moe_shared_expert_intermediate_size", defaults.shared_dim, 1, MAX_FFN),
        renormalise=values.flag("norm_topk_prob", defaults.renormalise),
        expert_scale=values.number("routed_scaling_factor", defaults.expert_scale, 0.0, 1000.0),
        ffn_bias=values.flag("mlp_bias", defaults.ffn_bias),
        norm_eps=eps,
    )


def _layers(values: Values, default: tuple[LayerKind, ...]) -> tuple[LayerKind, ...]:
    for key in ("layers_block_type", "layer_types"):
        if key in values:
            listed = values.items(key)
            if not 1 <= len(listed) <= MAX_LAYERS or not all(str(kind) in LAYER_TYPES for kind in listed):
                raise values.wrong(key, f"a list of {', '.join(LAYER_TYPES)}")
            return tuple(LAYER_TYPES[str(kind)] for kind in listed)
    key = "hybrid_override_pattern"
    pattern = values.text(key, "")
    if not pattern:
        return default
    if len(pattern) > MAX_LAYERS or not set(pattern) <= set(KINDS):
        raise values.wrong(key, f"at most {MAX_LAYERS} of the letters {' '.join(KINDS)}")
    return tuple(KINDS[letter] for letter in pattern)


def _state(values: Values, defaults: Mamba2Config, dim: int, eps: float) -> Mamba2Config:
    num_heads = values.integer("mamba_num_heads", defaults.num_heads, 1, MAX_DIM)
    num_groups = values.integer("n_groups", defaults.num_groups, 1, MAX_DIM)
    if num_heads % num_groups:
        raise CheckpointError(f"{values.where}: {num_groups} groups do not share {num_heads} state-space heads")
    return Mamba2Config(
        dim=dim,
        num_heads=num_heads,
        head_dim=values.integer("mamba_head_dim", defaults.head_dim, 1, MAX_DIM),
        num_groups=num_groups,
        state_size=values.integer("ssm_state_size", defaults.state_size, 1, MAX_DIM),
        taps=values.integer("conv_kernel", defaults.taps, 1, MAX_TAPS),
        chunk=values.integer("chunk_size", defaults.chunk, 1, MAX_CHUNK),
        conv_bias=values.flag("use_conv_bias", defaults.conv_bias),
        bias=values.flag("use_bias", defaults.bias),
        least_step=values.number("time_step_min", defaults.least_step, 0.0, 1000.0),
        norm_eps=eps,
    )


def hybrid_lm_shapes(config: HybridLMConfig, prefix: str, head: str, names: HybridNames) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by its published name.

    Arguments:
        config: the sizes.
        prefix: before the names of the layers, such as "model.".
        head: the output projection's name without ".weight".
        names: what the parts are called.
    """
    dim, state = config.dim, config.state
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}{names.embedding}.weight": (config.vocab_size, dim),
        f"{prefix}{names.norm}.weight": (dim,),
        f"{head}.weight": (config.vocab_size, dim),
    }

    def linear(name: str, rows: int, columns: int, bias: bool = False) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    for layer, kind in enumerate(config.layers):
        name = f"{prefix}layers.{layer}.mixer"
        shapes[f"{prefix}layers.{layer}.norm.weight"] = (dim,)
        if kind == "state":
            linear(f"{name}.in_proj", state.inner_dim + state.conv_dim + state.num_heads, dim, state.bias)
            linear(f"{name}.out_proj", dim, state.inner_dim, state.bias)
            shapes[f"{name}.conv1d.weight"] = (state.conv_dim, 1, state.taps)
            if state.conv_bias:
                shapes[f"{name}.conv1d.bias"] = (state.conv_dim,)
            for part in ("dt_bias", "A_log", "D"):
                shapes[f"{name}.{names.state}{part}"] = (state.num_heads,)
            shapes[f"{name}.norm.weight"] = (state.inner_dim,)
        elif kind == "attention":
            for part, heads in (("q", config.num_heads), ("k", config.num_key_heads), ("v", config.num_key_heads)):
                linear(f"{name}.{part}_proj", heads * config.head_dim, dim)
            linear(f"{name}.o_proj", dim, config.num_heads * config.head_dim)
        elif kind == "dense":
            linear(f"{name}.up_proj", config.ffn_dim, dim, config.ffn_bias)
            linear(f"{name}.down_proj", dim, config.ffn_dim, config.ffn_bias)
        else:
            shapes[f"{name}.gate.weight"] = (config.num_experts, dim)
            shapes[f"{name}.gate.e_score_correction_bias"] = (config.num_experts,)
            linear(f"{name}.shared_experts.up_proj", config.shared_dim, dim, config.ffn_bias)
            linear(f"{name}.shared_experts.down_proj", dim, config.shared_dim, config.ffn_bias)
            if names.fused_experts:
                shapes[f"{name}.experts.up_proj"] = (config.num_experts, config.expert_dim, dim)
                shapes[f"{name}.experts.down_proj"] = (config.num_experts, dim, config.expert_dim)
            else:
                for expert in range(config.num_experts):
                    linear(f"{name}.experts.{expert}.up_proj", config.expert_dim, dim)
                    linear(f"{name}.experts.{expert}.down_proj", dim, config.expert_dim)
    return shapes


def hybrid_lm_recipes(
    config: HybridLMConfig, ours: str, prefix: str, head: str, names: HybridNames
) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.layers.hybrid_lm.HybridLM` comes of published tensors.

    Arguments:
        config, prefix, head, names: as for `hybrid_lm_shapes`.
        ours: before the names of the parameters, such as "language_model."; "" where the model stands alone.
    """
    recipes = {
        f"{ours}embedding.weight": Recipe((f"{prefix}{names.embedding}.weight",)),
        f"{ours}norm.weight": Recipe((f"{prefix}{names.norm}.weight",)),
        f"{ours}head.weight": Recipe((f"{head}.weight",)),
    }

    def linear(here: str, *there: str, bias: bool = False) -> None:
        for part in ("weight", "bias") if bias else ("weight",):
            recipes[f"{here}.{part}"] = Recipe(tuple(f"{name}.{part}" for name in there))

    for layer, kind in enumerate(config.layers):
        here, there = f"{ours}layers.{layer}.inner", f"{prefix}layers.{layer}.mixer"
        linear(f"{ours}layers.{layer}.norm", f"{prefix}layers.{layer}.norm")
        if kind == "state":
            linear(f"{here}.project_in", f"{there}.in_proj", bias=config.state.bias)
            linear(f"{here}.out", f"{there}.out_proj", bias=config.state.bias)
            linear(f"{here}.norm", f"{there}.norm")
            recipes[f"{here}.conv_WK"] = Recipe((f"{there}.conv1d.weight",))
            if config.state.conv_bias:
                recipes[f"{here}.conv_bias_W"] = Recipe((f"{there}.conv1d.bias",))
            for parameter, part in (("step_bias_H", "dt_bias"), ("decay_H", "A_log"), ("skip_H", "D")):
                recipes[f"{here}.{parameter}"] = Recipe((f"{there}.{names.state}{part}",))
        elif kind == "attention":
            linear(f"{here}.qkv", *(f"{there}.{part}_proj" for part in "qkv"))
            linear(f"{here}.out", f"{there}.o_proj")
        elif kind == "dense":
            linear(f"{here}.up", f"{there}.up_proj", bias=config.ffn_bias)
            linear(f"{here}.down", f"{there}.down_proj", bias=config.ffn_bias)
        else:
            recipes[f"{here}.router"] = Recipe((f"{there}.gate.weight",))
            recipes[f"{here}.correction_E"] = Recipe((f"{there}.gate.e_score_correction_bias",))
            linear(f"{here}.shared.up", f"{there}.shared_experts.up_proj", bias=config.ffn_bias)
            linear(f"{here}.shared.down", f"{there}.shared_experts.down_proj", bias=config.ffn_bias)
            for parameter, part in (("gate_up_EHD", "up_proj"), ("down_EDF", "down_proj")):
                each = tuple(f"{there}.experts.{expert}.{part}.weight" for expert in range(config.num_experts))
                fused = (f"{there}.experts.{part}",)
                recipes[f"{here}.experts.{parameter}"] = Recipe(fused if names.fused_experts else each)
    return recipes
