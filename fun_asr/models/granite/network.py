"""Granite Speech's conformer: self-conditioned CTC (Nozaki & Komatsu 2021), attention in blocks, time halved inside.

Shapes: B utterances, L frames, M mel bins, D width, V vocabulary with the blank.
"""

from __future__ import annotations

from torch import Tensor, nn

from fun_asr.layers.attention import length_mask
from fun_asr.layers.conformer import ConformerBlock, ConvolutionModule
from fun_asr.layers.relative_attention import BlockAttention
from fun_asr.models.granite.config import GraniteConfig

__all__ = ["Granite"]


class Granite(nn.Module):
    """Features `[B, L, 4 * M]` at 50 Hz to frames of the CTC head."""

    def __init__(self, config: GraniteConfig) -> None:
        super().__init__()
        self.config = config
        self.input_linear = nn.Linear(4 * config.n_mels, config.dim)
        self.layers = nn.ModuleList(
            ConformerBlock(
                config.dim,
                BlockAttention(config.dim, config.num_heads, context=config.context, max_distance=config.max_distance),
                ConvolutionModule(
                    config.dim,
                    config.dim * config.conv_expansion,
                    config.conv_kernel,
                    depthwise_bias=False,
                    stride=2 if number in config.halving_layers else 1,
                ),
                config.ffn_dim,
                bias=config.bias,
            )
            for number in range(config.num_layers)
        )
        self.out = nn.Linear(config.dim, config.vocab_size)
        self.out_mid = nn.Linear(config.vocab_size, config.dim)
        self.ctc_head = None if config.tied else nn.Linear(config.dim, config.vocab_size)

    def encode(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features that are zero beyond each utterance's frames; returns frames and how many count."""
        x = self.input_linear(features.to(next(self.parameters()).dtype))
        mask = length_mask(lengths_B, x.shape[1])
        if mask is not None:
            x = x * mask[..., None].to(x.dtype)
        for number, layer in enumerate(self.layers):
            x = layer(x, mask)
            if number in self.config.halving_layers:
                lengths_B = lengths_B // 2
                mask = length_mask(lengths_B, x.shape[1])
            if number + 1 == self.config.num_layers // 2:
                x = x + self.out_mid(self.out(x).softmax(dim=-1)).to(x.dtype)
        return x, lengths_B

    def logits(self, encoded: Tensor) -> Tensor:
        """Of the CTC head, `[B, L, V]`."""
        head: nn.Module = self.out if self.ctc_head is None else self.ctc_head
        logits: Tensor = head(encoded)
        return logits
