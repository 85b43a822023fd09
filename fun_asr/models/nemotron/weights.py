"""Names and shapes of the tensors of Nemotron 3.5 Transcribe, as NVIDIA publishes and transformers writes them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fun_asr.models.hybrid_lm import HybridNames, find_hybrid_names, hybrid_lm_recipes, hybrid_lm_shapes
from fun_asr.models.nemotron.config import FrameConfig, NemotronConfig
from fun_asr.weights.assemble import Recipe

__all__ = ["names_of", "published_shapes", "recipes", "unused"]

TEXT, HEAD = "llm.model.", "llm.lm_head"
SPEECH, HEARD = "perception.encoder.asr_encoder", "perception.encoder.diarization_model.encoder"
SPEAKERS = "perception.encoder.diarization_model.sortformer_modules"
ALIGNER = "ctc_timestamp.decoder"
SILENCE = f"{SPEAKERS}.learnable_sil_emb"

SKIPPED = (
    "llm.mtp.",  # predicts several tokens ahead, for speed alone
    "perception.preprocessor.",
    "perception.encoder.diarization_model.preprocessor.",
    f"{SPEAKERS}.hidden_to_spks.",
    f"{ALIGNER}.residual_scale",
    f"{ALIGNER}.upsample_factor",
    "ctc_timestamp.tokenizer.model_proto",
)


def names_of(found: Iterable[str]) -> HybridNames:
    """What the parts of the language model are called."""
    return find_hybrid_names(found, TEXT)


def published_shapes(config: NemotronConfig, names: HybridNames) -> dict[str, tuple[int, ...]]:
    """Every tensor that is needed, by its published name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    def norm(name: str, dim: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (dim,)

    def frames(name: str, part: FrameConfig) -> None:
        norm(f"{name}.embed_norm", part.dim)
        norm(f"{name}.final_norm", part.dim)
        for layer in range(part.num_layers):
            block = f"{name}.layers.{layer}"
            linear(f"{block}.attn.w_qkv", 3 * part.dim, part.dim, bias=False)
            linear(f"{block}.attn.out_proj", part.dim, part.dim)
            if part.normalised_heads:
                norm(f"{block}.attn.q_norm", part.dim // part.num_heads)
                norm(f"{block}.attn.k_norm", part.dim // part.num_heads)
            linear(f"{block}.ffn.net.0", part.ffn_dim, part.dim)
            linear(f"{block}.ffn.net.3", part.dim, part.ffn_dim)
            norm(f"{block}.norm1", part.dim)
            norm(f"{block}.norm2", part.dim)

    speech, speakers, aligner = config.speech, config.speakers, config.aligner
    for name, part in ((SPEECH, speech), (HEARD, speakers.frames), (f"{ALIGNER}.transformer", aligner.frames)):
        frames(name, part)
    for name, part in ((SPEECH, speech), (HEARD, speakers.frames)):
        linear(f"{name}.pre_encode.proj", part.dim, config.stacked * config.n_mels, bias=False)
    linear(f"{SPEAKERS}.encoder_proj", speakers.head_dim, speakers.frames.dim)
    shapes[f"{SPEAKERS}.subpixel_upsample.weight"] = (config.stacked * speakers.head_dim, speakers.head_dim, 3)
    shapes[f"{SPEAKERS}.subpixel_upsample.bias"] = (config.stacked * speakers.head_dim,)
    linear(f"{SPEAKERS}.first_hidden_to_hidden", speakers.head_dim, speakers.head_dim)
    linear(f"{SPEAKERS}.single_hidden_to_spks", speakers.num_speakers, speakers.head_dim)
    norm("perception.encoder.asr_norm", speech.dim)
    norm("perception.encoder.diar_norm", speakers.num_speakers)
    linear("perception.proj", config.text.dim, speech.dim)
    shapes[f"{ALIGNER}.upsample.weight"] = (speech.dim, speech.dim, aligner.upsampling)
    shapes[f"{ALIGNER}.upsample.bias"] = (speech.dim,)
    shapes[f"{ALIGNER}.decoder_layers.0.weight"] = (aligner.num_classes, speech.dim, 1)
    shapes[f"{ALIGNER}.decoder_layers.0.bias"] = (aligner.num_classes,)
    return shapes | hybrid_lm_shapes(config.text, TEXT, HEAD, names)


def unused(found: Iterable[str]) -> list[str]:
    """Tensors that may be there and are not read: the silence between the chunks of long recordings among them."""
    return [name for name in found if name.startswith(SKIPPED) or name.endswith("._extra_state") or name == SILENCE]


def recipes(config: NemotronConfig, names: HybridNames) -> dict[str, Recipe]:
    """How each parameter of `fun_asr.models.nemotron.network.Nemotron` comes about."""
    made: dict[str, Recipe] = {}

    def same(ours: str, theirs: str, bias: bool = True) -> None:
        for part in ("weight", "bias") if bias else ("weight",):
            made[f"{ours}.{part}"] = Recipe((f"{theirs}.{part}",))

    def frames(ours: str, theirs: str, part: FrameConfig) -> None:
        same(f"{ours}.norm_in", f"{theirs}.embed_norm")
        same(f"{ours}.norm_out", f"{theirs}.final_norm")
        for layer in range(part.num_layers):
            here, there = f"{ours}.layers.{layer}", f"{theirs}.layers.{layer}"
            same(f"{here}.attention.qkv", f"{there}.attn.w_qkv", bias=False)
            same(f"{here}.attention.out", f"{there}.attn.out_proj")
            if part.normalised_heads:
                same(f"{here}.attention.query_norm", f"{there}.attn.q_norm")
                same(f"{here}.attention.key_norm", f"{there}.attn.k_norm")
            same(f"{here}.ffn.up", f"{there}.ffn.net.0")
            same(f"{here}.ffn.down", f"{there}.ffn.net.3")
            same(f"{here}.attention_norm", f"{there}.norm1")
            same(f"{here}.ffn_norm", f"{there}.norm2")

    frames("encoder.transformer", SPEECH, config.speech)
    frames("speaker_encoder.encoder.transformer", HEARD, config.speakers.frames)
    frames("aligner.transformer", f"{ALIGNER}.transformer", config.aligner.frames)
    same("encoder.project", f"{SPEECH}.pre_encode.proj", bias=False)
    same("speaker_encoder.encoder.project", f"{HEARD}.pre_encode.proj", bias=False)
    same("speaker_encoder.project", f"{SPEAKERS}.encoder_proj")
    same("speaker_encoder.upsample", f"{SPEAKERS}.subpixel_upsample")
    same("speaker_encoder.hidden", f"{SPEAKERS}.first_hidden_to_hidden")
    same("speaker_encoder.speakers", f"{SPEAKERS}.single_hidden_to_spks")
    same("speech_norm", "perception.encoder.asr_norm")
    same("speaker_norm", "perception.encoder.diar_norm")
    same("project", "perception.proj")
    factor = config.aligner.upsampling
    made["aligner.upsample.weight"] = Recipe((f"{ALIGNER}.upsample.weight",), _upsampling_matrix)
    made["aligner.upsample.bias"] = Recipe((f"{ALIGNER}.upsample.bias",), lambda parts: parts[0].repeat(factor))
    same("aligner.classes", f"{ALIGNER}.decoder_layers.0")
    return made | hybrid_lm_recipes(config.text, "language_model.", TEXT, HEAD, names)


def _upsampling_matrix(parts: list[Tensor]) -> Tensor:
    """A transposed convolution `[inputs, outputs, taps]` that steps by its taps, as `[taps * outputs, inputs]`."""
    return torch.permute(parts[0], (2, 1, 0)).flatten(0, 1)
