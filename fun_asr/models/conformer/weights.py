"""Names and shapes of a FastConformer's weights as transformers and NeMo write them, and what becomes of them here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from fun_asr.models.conformer.config import ConformerConfig
from fun_asr.weights.assemble import Recipe
from fun_asr.weights.batch_norm import folded_norm

__all__ = ["from_nemo_name", "published_name", "published_shapes", "recipes", "unused"]

_BLOCK_NORMS = ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out")
_NEMO_NAMES = (
    (r"^encoder\.pre_encode\.conv\.", "encoder.subsampling.layers."),
    (r"^encoder\.pre_encode\.out\.", "encoder.subsampling.linear."),
    (r"\.conv\.batch_norm\.", ".conv.norm."),
    (r"\.linear_pos\.", ".relative_k_proj."),
    (r"\.linear_([qkv])\.", r".\1_proj."),
    (r"\.linear_out\.", ".o_proj."),
    (r"\.pos_bias_([uv])$", r".bias_\1"),
    (r"^(?:ctc_)?decoder\.decoder_layers\.0\.", "ctc_head."),
    (r"^decoder\.prediction\.embed\.", "decoder.embedding."),
    (r"^decoder\.prediction\.dec_rnn\.lstm\.", "decoder.lstm."),
    (r"^joint\.enc\.", "encoder_projector."),
    (r"^joint\.pred\.", "decoder.decoder_projector."),
    (r"^joint\.joint_net\.2\.", "joint.head."),
)

_TRAINED_NAMES = {
    "encoder.subsampling.first.": "encoder.subsampling.layers.0.",
    ".conv.expand.": ".conv.pointwise_conv1.",
    ".conv.depthwise.": ".conv.depthwise_conv.",
    ".conv.project.": ".conv.pointwise_conv2.",
}


def from_nemo_name(name: str) -> str | None:
    """transformers' name of a NeMo tensor; None for what is computed here: window, filters, positions."""
    if name.startswith(("preprocessor.", "encoder.pos_enc.", "spec_augment")):
        return None
    for pattern, replacement in _NEMO_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def published_name(ours: str) -> str:
    """transformers' name of a tensor of `fun_asr.models.conformer.network.Conformer` as trained, with a CTC head."""
    for part, first in (("depthwise", 2), ("pointwise", 3)):
        match = re.match(rf"encoder\.subsampling\.{part}\.(\d+)\.", ours)
        if match:
            return f"encoder.subsampling.layers.{first + 3 * int(match[1])}.{ours[match.end() :]}"
    for pattern, replacement in _TRAINED_NAMES.items():
        ours = ours.replace(pattern, replacement)
    return ours


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def published_shapes(config: ConformerConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by transformers' names."""
    sizes, dim = config.encoder, config.encoder.dim
    shapes: dict[str, tuple[int, ...]] = {}
    layers = "encoder.subsampling.layers"
    shapes[f"{layers}.0.weight"], shapes[f"{layers}.0.bias"] = (sizes.channels, 1, 3, 3), (sizes.channels,)
    for place in range(2, 3 * sizes.halvings - 1, 3):
        shapes[f"{layers}.{place}.weight"] = (sizes.channels, 1, 3, 3)
        shapes[f"{layers}.{place}.bias"] = (sizes.channels,)
        shapes[f"{layers}.{place + 1}.weight"] = (sizes.channels, sizes.channels, 1, 1)
        shapes[f"{layers}.{place + 1}.bias"] = (sizes.channels,)
    shapes.update(_linear("encoder.subsampling.linear", dim, sizes.channels * (sizes.n_mels >> sizes.halvings)))
    for number in range(sizes.num_layers):
        block = f"encoder.layers.{number}"
        for part in ("feed_forward1", "feed_forward2"):
            shapes.update(_linear(f"{block}.{part}.linear1", sizes.ffn_dim, dim, sizes.bias))
            shapes.update(_linear(f"{block}.{part}.linear2", dim, sizes.ffn_dim, sizes.bias))
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes.update(_linear(f"{block}.self_attn.{part}", dim, dim, sizes.bias))
        shapes[f"{block}.self_attn.relative_k_proj.weight"] = (dim, dim)
        for part in ("bias_u", "bias_v"):
            shapes[f"{block}.self_attn.{part}"] = (sizes.num_heads, dim // sizes.num_heads)
        for part, rows, shape in (
            ("pointwise_conv1", 2 * dim, (dim, 1)),
            ("depthwise_conv", dim, (1, sizes.conv_kernel)),
            ("pointwise_conv2", dim, (dim, 1)),
        ):
            shapes[f"{block}.conv.{part}.weight"] = (rows, *shape)
            if sizes.conv_bias:
                shapes[f"{block}.conv.{part}.bias"] = (rows,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{block}.conv.norm.{part}"] = (dim,)
        for part in _BLOCK_NORMS:
            shapes[f"{block}.{part}.weight"] = shapes[f"{block}.{part}.bias"] = (dim,)
    if config.ctc:
        shapes["ctc_head.weight"], shapes["ctc_head.bias"] = (config.vocab_size, dim, 1), (config.vocab_size,)
    if config.kind != "ctc":
        width = config.prediction_dim
        shapes.update(_linear("encoder_projector", width, dim))
        shapes["decoder.embedding.weight"] = (config.vocab_size, width)
        for number in range(config.prediction_layers):
            for part in ("ih", "hh"):
                shapes[f"decoder.lstm.weight_{part}_l{number}"] = (4 * width, width)
                shapes[f"decoder.lstm.bias_{part}_l{number}"] = (4 * width,)
        shapes.update(_linear("decoder.decoder_projector", width, width))
        shapes.update(_linear("joint.head", config.vocab_size + len(config.durations), width))
    return shapes


def unused(config: ConformerConfig) -> list[str]:
    """Tensors that may be there and say nothing for inference."""
    return [f"encoder.layers.{number}.conv.norm.num_batches_tracked" for number in range(config.encoder.num_layers)]


def recipes(config: ConformerConfig) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.models.conformer.network.Conformer`, made ready for inference, comes about."""
    sizes = config.encoder
    found: dict[str, Recipe] = {}

    def same(ours: str, *theirs: str, bias: bool = True) -> None:
        for part in ("weight", "bias") if bias else ("weight",):
            found[f"{ours}.{part}"] = Recipe(tuple(f"{name}.{part}" for name in theirs))

    same("encoder.subsampling.first", "encoder.subsampling.layers.0")
    for number in range(sizes.halvings - 1):
        same(f"encoder.subsampling.depthwise.{number}", f"encoder.subsampling.layers.{2 + 3 * number}")
        same(f"encoder.subsampling.pointwise.{number}", f"encoder.subsampling.layers.{3 + 3 * number}")
    same("encoder.subsampling.linear", "encoder.subsampling.linear")
    for number in range(sizes.num_layers):
        block = f"encoder.layers.{number}"
        attention, conv = f"{block}.self_attn", f"{block}.conv"
        for layer in (
            "feed_forward1.linear1",
            "feed_forward1.linear2",
            "feed_forward2.linear1",
            "feed_forward2.linear2",
        ):
            same(f"{block}.{layer}", f"{block}.{layer}", bias=sizes.bias)
        same(f"{attention}.qkv", *(f"{attention}.{part}_proj" for part in "qkv"), bias=sizes.bias)
        same(f"{attention}.o_proj", f"{attention}.o_proj", bias=sizes.bias)
        same(f"{attention}.relative_k_proj", f"{attention}.relative_k_proj", bias=False)
        for part in ("bias_u", "bias_v"):
            found[f"{attention}.{part}"] = Recipe((f"{attention}.{part}",))
        same(f"{conv}.expand", f"{conv}.pointwise_conv1", bias=sizes.conv_bias)
        same(f"{conv}.project", f"{conv}.pointwise_conv2", bias=sizes.conv_bias)
        found.update(folded_norm(f"{conv}.depthwise", conv, conv_bias=sizes.conv_bias))
        for part in _BLOCK_NORMS:
            same(f"{block}.{part}", f"{block}.{part}")
    if config.ctc:
        same("ctc_head", "ctc_head")
    if config.kind != "ctc":
        same("transducer.encoder_projection", "encoder_projector")
        same("transducer.embedding", "decoder.embedding", bias=False)
        same("transducer.prediction_projection", "decoder.decoder_projector")
        same("transducer.head", "joint.head")
        for number in range(config.prediction_layers):
            gates, lstm = f"transducer.lstm.{number}.gates", "decoder.lstm"
            found[f"{gates}.weight"] = Recipe(
                (f"{lstm}.weight_ih_l{number}", f"{lstm}.weight_hh_l{number}"), lambda parts: torch.cat(parts, dim=1)
            )
            found[f"{gates}.bias"] = Recipe(
                (f"{lstm}.bias_ih_l{number}", f"{lstm}.bias_hh_l{number}"), lambda parts: parts[0] + parts[1]
            )
    return found
