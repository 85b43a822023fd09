"""What our parameters are called in the three layouts in which Whisper's weights are published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fun_asr.models.whisper.config import WhisperConfig

__all__ = ["CTRANSLATE2", "OPENAI", "TRANSFORMERS", "Layout"]

# What a block's module is made of: the outputs of several of theirs, one after another, are one of ours.
Modules = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of one layout."""

    tensors: Mapping[str, str]
    """Single tensors: our name, theirs."""
    modules: Mapping[str, str]
    """Modules outside the blocks."""
    encoder: str
    """What a block's names start with, with {} for its number."""
    encoder_modules: Modules
    decoder: str
    decoder_modules: Modules
    separator: str = "."
    norm_parts: tuple[str, str] = ("weight", "bias")
    """What a layer normalisation's factors and offsets are called."""
    without_bias: str = ""
    """Modules whose names end so have no bias; ours has zeros there."""
    unused: frozenset[str] = field(default_factory=frozenset)
    """Tensors that may be there and say nothing new."""

    def names(self, config: WhisperConfig) -> dict[str, tuple[str | None, ...]]:
        """For each of our tensors theirs, whose rows follow each other in it; None stands for zeros."""
        found: dict[str, tuple[str | None, ...]] = {ours: (theirs,) for ours, theirs in self.tensors.items()}
        for ours, theirs in self._all_modules(config):
            is_norm = ours.endswith("norm")
            for kind, part in zip(("weight", "bias"), self.norm_parts if is_norm else ("weight", "bias"), strict=True):
                found[f"{ours}.{kind}"] = tuple(
                    None
                    if kind == "bias" and self.without_bias and module.endswith(self.without_bias)
                    else f"{module}{self.separator}{part}"
                    for module in theirs
                )
        return found

    def _all_modules(self, config: WhisperConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
        for ours, module in self.modules.items():
            yield ours, (module,)
        for side, count, block, modules in (
            ("encoder", config.encoder_layers, self.encoder, self.encoder_modules),
            ("decoder", config.decoder_layers, self.decoder, self.decoder_modules),
        ):
            for layer in range(count):
                for ours, theirs in modules.items():
                    yield f"{side}.blocks.{layer}.{ours}", tuple(block.format(layer) + module for module in theirs)


TRANSFORMERS = Layout(
    tensors={
        "encoder.positions": "model.encoder.embed_positions.weight",
        "decoder.embedding.weight": "model.decoder.embed_tokens.weight",
        "decoder.positions": "model.decoder.embed_positions.weight",
    },
    modules={
        "encoder.conv1": "model.encoder.conv1",
        "encoder.conv2": "model.encoder.conv2",
        "encoder.norm": "model.encoder.layer_norm",
        "decoder.norm": "model.decoder.layer_norm",
    },
    encoder="model.encoder.layers.{}.",
    encoder_modules={
        "attention_norm": ("self_attn_layer_norm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.out_proj",),
        "ffn_norm": ("final_layer_norm",),
        "ffn.up": ("fc1",),
        "ffn.down": ("fc2",),
    },
    decoder="model.decoder.layers.{}.",
    decoder_modules={
        "self_norm": ("self_attn_layer_norm",),
        "self_attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attention.out": ("self_attn.out_proj",),
        "cross_norm": ("encoder_attn_layer_norm",),
        "cross_attention.q": ("encoder_attn.q_proj",),
        "cross_attention.kv": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
        "cross_attention.out": ("encoder_attn.out_proj",),
        "ffn_norm": ("final_layer_norm",),
        "ffn.shared.up": ("fc1",),
        "ffn.shared.down": ("fc2",),
    },
    without_bias="k_proj",
    unused=frozenset({"proj_out.weight"}),  # the embeddings again
)

OPENAI = Layout(
    tensors={
        "encoder.positions": "encoder.positional_embedding",
        "decoder.embedding.weight": "decoder.token_embedding.weight",
        "decoder.positions": "decoder.positional_embedding",
    },
    modules={
        "encoder.conv1": "encoder.conv1",
        "encoder.conv2": "encoder.conv2",
        "encoder.norm": "encoder.ln_post",
        "decoder.norm": "decoder.ln",
    },
    encoder="encoder.blocks.{}.",
    encoder_modules={
        "attention_norm": ("attn_ln",),
        "attention.qkv": ("attn.query", "attn.key", "attn.value"),
        "attention.out": ("attn.out",),
        "ffn_norm": ("mlp_ln",),
        "ffn.up": ("mlp.0",),
        "ffn.down": ("mlp.2",),
    },
    decoder="decoder.blocks.{}.",
    decoder_modules={
        "self_norm": ("attn_ln",),
        "self_attention.qkv": ("attn.query", "attn.key", "attn.value"),
        "self_attention.out": ("attn.out",),
        "cross_norm": ("cross_attn_ln",),
        "cross_attention.q": ("cross_attn.query",),
        "cross_attention.kv": ("cross_attn.key", "cross_attn.value"),
        "cross_attention.out": ("cross_attn.out",),
        "ffn_norm": ("mlp_ln",),
        "ffn.shared.up": ("mlp.0",),
        "ffn.shared.down": ("mlp.2",),
    },
    without_bias="key",
    unused=frozenset({"decoder.mask", "alignment_heads"}),
)

CTRANSLATE2 = Layout(
    tensors={
        "encoder.positions": "encoder/position_encodings/encodings",
        "decoder.embedding.weight": "decoder/embeddings/weight",
        "decoder.positions": "decoder/position_encodings/encodings",
    },
    modules={
        "encoder.conv1": "encoder/conv1",
        "encoder.conv2": "encoder/conv2",
        "encoder.norm": "encoder/layer_norm",
        "decoder.norm": "decoder/layer_norm",
    },
    encoder="encoder/layer_{}/",
    encoder_modules={
        "attention_norm": ("self_attention/layer_norm",),
        "attention.qkv": ("self_attention/linear_0",),
        "attention.out": ("self_attention/linear_1",),
        "ffn_norm": ("ffn/layer_norm",),
        "ffn.up": ("ffn/linear_0",),
        "ffn.down": ("ffn/linear_1",),
    },
    decoder="decoder/layer_{}/",
    decoder_modules={
        "self_norm": ("self_attention/layer_norm",),
        "self_attention.qkv": ("self_attention/linear_0",),
        "self_attention.out": ("self_attention/linear_1",),
        "cross_norm": ("attention/layer_norm",),
        "cross_attention.q": ("attention/linear_0",),
        "cross_attention.kv": ("attention/linear_1",),
        "cross_attention.out": ("attention/linear_2",),
        "ffn_norm": ("ffn/layer_norm",),
        "ffn.shared.up": ("ffn/linear_0",),
        "ffn.shared.down": ("ffn/linear_1",),
    },
    separator="/",
    norm_parts=("gamma", "beta"),
    unused=frozenset({"decoder/projection/weight"}),
)
