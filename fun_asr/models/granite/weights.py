"""Names and shapes of a Granite model's weights as transformers writes them, and what becomes of them here."""

from __future__ import annotations

from fun_asr.models.granite.config import GraniteConfig
from fun_asr.weights.assemble import Recipe
from fun_asr.weights.batch_norm import folded_norm

__all__ = ["published_name", "published_shapes", "recipes", "unused"]

_NORMS = ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out")
_HEAD = ("ctc_head.weight", "ctc_head.bias")

_TRAINED_NAMES = {
    ".conv.expand.": ".conv.pointwise_lin1.",
    ".conv.depthwise.": ".conv.depthwise_conv.",
    ".conv.project.": ".conv.pointwise_lin2.",
}


def published_name(ours: str) -> str:
    """transformers' name of a tensor of `fun_asr.models.granite.network.Granite` as it is trained."""
    for pattern, replacement in _TRAINED_NAMES.items():
        ours = ours.replace(pattern, replacement)
    return ours if ours.startswith("ctc_head.") else f"encoder.{ours}"


def published_shapes(config: GraniteConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by transformers' names; without a CTC head that is the one in the middle."""
    dim, inner = config.dim, config.dim * config.conv_expansion
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    linear("encoder.input_linear", dim, 4 * config.n_mels)
    for number in range(config.num_layers):
        block = f"encoder.layers.{number}"
        for part in ("feed_forward1", "feed_forward2"):
            linear(f"{block}.{part}.linear1", config.ffn_dim, dim, config.bias)
            linear(f"{block}.{part}.linear2", dim, config.ffn_dim, config.bias)
        for part in ("q_proj", "k_proj", "v_proj"):
            linear(f"{block}.self_attn.{part}", dim, dim, bias=False)
        linear(f"{block}.self_attn.o_proj", dim, dim)
        shapes[f"{block}.self_attn.rel_pos_emb.weight"] = (2 * config.max_distance + 1, dim // config.num_heads)
        linear(f"{block}.conv.pointwise_lin1", 2 * inner, dim)
        linear(f"{block}.conv.pointwise_lin2", dim, inner)
        shapes[f"{block}.conv.depthwise_conv.weight"] = (inner, 1, config.conv_kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{block}.conv.norm.{part}"] = (inner,)
        for part in _NORMS:
            shapes[f"{block}.{part}.weight"] = shapes[f"{block}.{part}.bias"] = (dim,)
    linear("encoder.out", config.vocab_size, dim)
    linear("encoder.out_mid", dim, config.vocab_size)
    if not config.tied:
        linear("ctc_head", config.vocab_size, dim)
    return shapes


def unused(config: GraniteConfig) -> list[str]:
    """Tensors that may be there and say nothing for inference."""
    counts = [f"encoder.layers.{number}.conv.norm.num_batches_tracked" for number in range(config.num_layers)]
    return [*counts, *(_HEAD if config.tied else ())]


def recipes(config: GraniteConfig) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.models.granite.network.Granite`, made ready for inference, comes about."""
    found: dict[str, Recipe] = {}

    def same(ours: str, *theirs: str, bias: bool = True) -> None:
        for part in ("weight", "bias") if bias else ("weight",):
            found[f"{ours}.{part}"] = Recipe(tuple(f"{name}.{part}" for name in theirs))

    for name in ("input_linear", "out", "out_mid"):
        same(name, f"encoder.{name}")
    for number in range(config.num_layers):
        ours, theirs = f"layers.{number}", f"encoder.layers.{number}"
        for part in (
            "feed_forward1.linear1",
            "feed_forward1.linear2",
            "feed_forward2.linear1",
            "feed_forward2.linear2",
        ):
            same(f"{ours}.{part}", f"{theirs}.{part}", bias=config.bias)
        same(f"{ours}.self_attn.qkv", *(f"{theirs}.self_attn.{part}_proj" for part in "qkv"), bias=False)
        same(f"{ours}.self_attn.o_proj", f"{theirs}.self_attn.o_proj")
        same(f"{ours}.self_attn.rel_pos_emb", f"{theirs}.self_attn.rel_pos_emb", bias=False)
        same(f"{ours}.conv.expand", f"{theirs}.conv.pointwise_lin1")
        same(f"{ours}.conv.project", f"{theirs}.conv.pointwise_lin2")
        found.update(folded_norm(f"{ours}.conv.depthwise", f"{theirs}.conv", conv_bias=False))
        for part in _NORMS:
            same(f"{ours}.{part}", f"{theirs}.{part}")
    if not config.tied:
        same("ctc_head", "ctc_head")
    return found
