"""A bidirectional transformer encoder in BERT's shape (Devlin et al. 2019): learnt positions, norms after the sums.

Shapes: B rows, T pieces, D width, H heads, F hidden width of a feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.errors import ConfigError

_NORM_EPS = 1e-12


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes of the encoder."""

    vocab_size: int
    dim: int = 384
    num_layers: int = 4
    num_heads: int = 12
    ffn_dim: int = 1536
    max_positions: int = 192
    """Most pieces of one text."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "num_heads", "ffn_dim", "max_positions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_layers < 0 or self.dim % self.num_heads:
            raise ConfigError(f"num_layers must not be negative, and {self.num_heads} heads must divide {self.dim}")


def _product(linear: nn.Module, x: Tensor) -> Tensor:
    """The residual stream is float32 also where the matrices are bfloat16."""
    result: Tensor = linear(x.to(linear.weight.dtype) if isinstance(linear, nn.Linear) else x)
    return result


class BertBlock(nn.Module):
    """Self-attention and a feed-forward, each added to its input and then normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.attention_norm = nn.LayerNorm(config.dim, eps=_NORM_EPS)
        self.up = nn.Linear(config.dim, config.ffn_dim)
        self.down = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=_NORM_EPS)

    def forward(self, x_BTD: Tensor, mask_B1TT: Tensor) -> Tensor:
        """One layer; the mask is True where a piece (third axis) may look at another (fourth)."""
        q, k, v = _product(self.qkv, x_BTD).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended_BHTd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1TT)
        x_BTD = self.attention_norm(x_BTD + _product(self.out, attended_BHTd.transpose(1, 2).flatten(2)))
        changed: Tensor = self.ffn_norm(x_BTD + _product(self.down, F.gelu(_product(self.up, x_BTD))))
        return changed


class BertEncoder(nn.Module):
    """Pieces of texts in, a vector for each out. BERT's token type 0 is part of the positions."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.pieces = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.max_positions, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=_NORM_EPS)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.num_layers))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self, pieces_BT: Tensor, positions_BT: Tensor, texts_BT: Tensor, added_BTD: Tensor | None = None
    ) -> Tensor:
        """Vectors of the pieces, float32 `[B, T, D]`.

        Arguments:
            pieces_BT: numbers in the vocabulary.
            positions_BT: places in their texts, counted from 0.
            texts_BT: numbers of the texts in a row: pieces see those of the same number.
            added_BTD: what else is known of the pieces.
        """
        x_BTD: Tensor = self.pieces(pieces_BT) + self.positions(positions_BT)
        if added_BTD is not None:
            x_BTD = x_BTD + added_BTD
        x_BTD = self.dropout(self.norm(x_BTD))
        mask_B1TT = (texts_BT[:, :, None] == texts_BT[:, None, :])[:, None]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_B1TT)
        return x_BTD
