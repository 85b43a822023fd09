"""Names and shapes of the tensors of Qwen's speech models, as Qwen and as transformers write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fun_asr.models.causal_lm import causal_lm_recipes, causal_lm_shapes
from fun_asr.models.qwen3.config import Qwen3Config
from fun_asr.weights.assemble import Recipe

__all__ = ["Names", "find_names", "published_shapes", "recipes", "unused"]

SKIPPED = ("talker.", "code2wav.", "token2wav.", "model.visual.", "thinker.visual.", "visual.")
"""What sees and speaks in Qwen3-Omni: never read."""


@dataclass(frozen=True)
class Names:
    """What the parts of a model are called in its files."""

    audio: str
    project: tuple[str, str]
    text: str
    head: str
    """Without ".weight"; of the output projection, or of the labels."""
    fused_experts: bool


def find_names(names: Iterable[str], config: Qwen3Config) -> Names:
    """What the parts of a model are called, by the names of its tensors.

    Qwen puts everything under "thinker."; transformers parts encoder and projection of Qwen3-ASR, and writes the
    thinker alone without its name.
    """
    known = {name for name in names if not name.startswith(SKIPPED)}
    roots = ("thinker.", "model.", "")
    root = next((root for root in roots if f"{root}audio_tower.conv_out.weight" in known), roots[0])
    audio = f"{root}audio_tower."
    apart = f"{root}multi_modal_projector.linear_"
    project = (f"{apart}1", f"{apart}2") if f"{apart}1.weight" in known else (f"{audio}proj1", f"{audio}proj2")
    inner = f"{root}language_model."
    text = inner if f"{inner}embed_tokens.weight" in known else f"{root}model."
    outside = "" if root == "model." else root
    return Names(
        audio=audio,
        project=project,
        text=text,
        head="score" if config.kind == "aligner" and "score.weight" in known else f"{outside}lm_head",
        fused_experts=any(name.endswith("mlp.experts.gate_up_proj") for name in known),
    )


def published_shapes(config: Qwen3Config, names: Names) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by its published name."""
    audio = config.audio
    dim, channels = audio.dim, audio.conv_channels
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    for number, inputs in enumerate((1, channels, channels), start=1):
        shapes[f"{names.audio}conv2d{number}.weight"] = (channels, inputs, 3, 3)
        shapes[f"{names.audio}conv2d{number}.bias"] = (channels,)
    linear(f"{names.audio}conv_out", dim, channels * audio.mel_bands, bias=False)
    norms = [f"{names.audio}ln_post"]
    for layer in range(audio.num_layers):
        block = f"{names.audio}layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{block}.self_attn.{part}", dim, dim)
        linear(f"{block}.fc1", audio.ffn_dim, dim)
        linear(f"{block}.fc2", dim, audio.ffn_dim)
        norms += [f"{block}.self_attn_layer_norm", f"{block}.final_layer_norm"]
    for name in norms:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dim,)
    linear(names.project[0], dim, dim)
    linear(names.project[1], audio.out_dim, dim)
    if config.labels:
        linear(names.head, config.labels, config.text.dim, config.label_bias)
    return shapes | causal_lm_shapes(config.text, names.text, names.head, fused_experts=names.fused_experts)


def unused(config: Qwen3Config, names: Names, found: Iterable[str]) -> list[str]:
    """Tensors that may be there and are not read: an output projection that is the embedding, vision and voice."""
    skipped = [name for name in found if config.kind == "omni" and name.startswith(SKIPPED)]
    return [*skipped, f"{names.head}.weight"]


def recipes(config: Qwen3Config, names: Names) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.models.qwen3.network.Qwen3` comes about."""
    found: dict[str, Recipe] = {}

    def same(ours: str, *theirs: str, bias: bool = True) -> None:
        for part in ("weight", "bias") if bias else ("weight",):
            found[f"{ours}.{part}"] = Recipe(tuple(f"{name}.{part}" for name in theirs))

    for number in range(3):
        same(f"encoder.convs.{number}", f"{names.audio}conv2d{number + 1}")
    same("encoder.conv_out", f"{names.audio}conv_out", bias=False)
    for layer in range(config.audio.num_layers):
        ours, theirs = f"encoder.layers.{layer}", f"{names.audio}layers.{layer}"
        same(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm")
        same(f"{ours}.attention.qkv", *(f"{theirs}.self_attn.{part}_proj" for part in "qkv"))
        same(f"{ours}.attention.out", f"{theirs}.self_attn.out_proj")
        same(f"{ours}.ffn_norm", f"{theirs}.final_layer_norm")
        same(f"{ours}.ffn.up", f"{theirs}.fc1")
        same(f"{ours}.ffn.down", f"{theirs}.fc2")
    same("encoder.norm", f"{names.audio}ln_post")
    same("encoder.project_in", names.project[0])
    same("encoder.project_out", names.project[1])
    if config.labels:
        same("score", names.head, bias=config.label_bias)
    return found | causal_lm_recipes(
        config.text, "language_model.", names.text, names.head, fused_experts=names.fused_experts
    )
