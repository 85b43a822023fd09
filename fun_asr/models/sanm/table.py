"""Which published tensors a network is made of, written once for their shapes and for what becomes of them.

Upstream's `model.pt` and transformers' safetensors call the parts of a block differently, and upstream's encoder stores
queries, keys and values in one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fun_asr.layers.sanm import SANMConfig
from fun_asr.weights.assemble import Recipe

__all__ = ["TRANSFORMERS", "UPSTREAM", "UPSTREAM_FUSED", "BlockNames", "Table", "encoder_table"]


@dataclass(frozen=True, kw_only=True)
class BlockNames:
    """What a layout calls the parts of a block."""

    qkv: tuple[str, ...]
    """Of queries, keys and values: one joint matrix, or three."""
    out: str
    memory: str
    up: str
    down: str
    attention_norm: str
    ffn_norm: str


UPSTREAM = BlockNames(
    qkv=("self_attn.linear_q", "self_attn.linear_k", "self_attn.linear_v"),
    out="self_attn.linear_out",
    memory="self_attn.fsmn_block",
    up="feed_forward.w_1",
    down="feed_forward.w_2",
    attention_norm="norm1",
    ffn_norm="norm2",
)
"""FunASR's, outside the encoder."""
UPSTREAM_FUSED = BlockNames(**{**vars(UPSTREAM), "qkv": ("self_attn.linear_q_k_v",)})
"""FunASR's, in the encoder."""
TRANSFORMERS = BlockNames(
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    memory="self_attn.fsmn.conv",
    up="mlp.fc1",
    down="mlp.fc2",
    attention_norm="input_layernorm",
    ffn_norm="post_attention_layernorm",
)


@dataclass(frozen=True)
class Table:
    """Published tensors and parameters."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of every published tensor that is needed."""
    recipes: dict[str, Recipe] = field(default_factory=dict)
    """Of every parameter."""

    def tensor(self, ours: str, theirs: Sequence[str], *shape: int) -> None:
        """A parameter, made of published tensors that share its rows among them equally."""
        rows, *others = shape
        assert rows % len(theirs) == 0
        for name in theirs:
            self.shapes[name] = (rows // len(theirs), *others)
        self.recipes[ours] = Recipe(tuple(theirs))

    def linear(self, ours: str, theirs: str | Sequence[str], rows: int, columns: int) -> None:
        """A linear layer with a bias."""
        names = (theirs,) if isinstance(theirs, str) else theirs
        self.tensor(f"{ours}.weight", [f"{name}.weight" for name in names], rows, columns)
        self.tensor(f"{ours}.bias", [f"{name}.bias" for name in names], rows)

    def norm(self, ours: str, theirs: str, width: int) -> None:
        """A layer norm."""
        for part in ("weight", "bias"):
            self.tensor(f"{ours}.{part}", [f"{theirs}.{part}"], width)

    def block(
        self, ours: str, theirs: str, names: BlockNames, dim: int, ffn_dim: int, *, in_dim: int = 0, kernel: int = 0
    ) -> None:
        """A `fun_asr.layers.sanm.SANMBlock`, whose input is as wide as its output unless `in_dim` is given."""
        in_dim = in_dim or dim
        self.linear(f"{ours}.attention.qkv", [f"{theirs}.{name}" for name in names.qkv], 3 * dim, in_dim)
        self.linear(f"{ours}.attention.out", f"{theirs}.{names.out}", dim, dim)
        if kernel:
            self.tensor(f"{ours}.attention.memory.weight", [f"{theirs}.{names.memory}.weight"], dim, 1, kernel)
        self.linear(f"{ours}.feed_forward.up", f"{theirs}.{names.up}", ffn_dim, dim)
        self.linear(f"{ours}.feed_forward.down", f"{theirs}.{names.down}", dim, ffn_dim)
        self.norm(f"{ours}.attention_norm", f"{theirs}.{names.attention_norm}", in_dim)
        self.norm(f"{ours}.ffn_norm", f"{theirs}.{names.ffn_norm}", dim)


def encoder_table(table: Table, config: SANMConfig, ours: str, theirs: str, *, upstream: bool) -> None:
    """Add the encoder.

    Arguments:
        table: what is added to.
        config: the encoder's.
        ours, theirs: what stands before its names, with the dot.
        upstream: whether the layout is that of FunASR, or that of transformers.
    """
    first, last = config.num_layers, config.num_layers + config.num_more_layers
    for number in range(last):
        if not upstream:
            stored = f"layers.{number}"
        elif number == 0:
            stored = "encoders0.0"
        else:
            stored = f"encoders.{number - 1}" if number < first else f"tp_encoders.{number - first}"
        table.block(
            f"{ours}blocks.{number}",
            f"{theirs}{stored}",
            UPSTREAM_FUSED if upstream else TRANSFORMERS,
            config.dim,
            config.ffn_dim,
            in_dim=0 if number else config.in_dim,
            kernel=config.kernel,
        )
    middle, final = (f"layers.{first - 1}.final_layernorm", f"layers.{last - 1}.final_layernorm")
    table.norm(f"{ours}middle_norm", theirs + ("after_norm" if upstream else middle), config.dim)
    table.norm(f"{ours}last_norm", theirs + ("tp_norm" if upstream else final), config.dim)
