"""The autoregressive decoder: causal self-attention, cross-attention to the encoder and an MoE feed-forward per layer.

Shapes: B utterances, W hypotheses per utterance (1 in greedy search), R = B * W rows, S tokens, L encoder frames,
D width, H heads, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import CausalSelfAttention, CrossAttention, length_mask, valid_lengths
from fun_asr.layers.cache import CACHE_STEP, DecoderCache
from fun_asr.layers.moe import MoEFeedForward, Router
from fun_asr.layers.silence import Silence


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes of the autoregressive mixture-of-experts decoder."""

    vocab_size: int = 51_865
    dim: int = 512
    num_layers: int = 6
    num_heads: int = 8
    ffn_dim: int = 2048
    """Hidden width of the shared expert."""
    num_experts: int = 8
    """Routed experts per layer; 0 leaves only the shared expert."""
    num_experts_per_token: int = 2
    expert_dim: int = 128
    """Hidden width of one routed expert."""
    max_tokens: int = 448
    """Longest sequence, prompt included."""


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and MoE feed-forward, each with a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(config.dim)
        self.self_attention = CausalSelfAttention(config.dim, config.num_heads)
        self.cross_norm = nn.LayerNorm(config.dim)
        self.cross_attention = CrossAttention(config.dim, config.num_heads)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.ffn = MoEFeedForward(
            config.dim, config.ffn_dim, config.num_experts, config.num_experts_per_token, config.expert_dim
        )

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        cache: DecoderCache | None = None,
        layer: int = 0,
        counted_BS: Tensor | None = None,
    ) -> Tensor:
        x = x + self.self_attention(self.self_norm(x), cache, layer)
        x = x + self.cross_attention(self.cross_norm(x), keys, values, mask, cache)
        return x + self.ffn(self.ffn_norm(x), counted_BS)  # type: ignore[no-any-return]


class TokenEmbedding(nn.Module):
    """Token vectors, shared by the input and by the output projection."""

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[...]` int64 to `[..., D]`."""
        return F.embedding(tokens, self.weight)

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]`."""
        return F.linear(x, self.weight)


class Decoder(nn.Module):
    """Tokens and the encoder's output to next-token logits.

    Arguments:
        config: its sizes.
        silence: the frames of silence that the encoder's output ends with.
    """

    def __init__(self, config: DecoderConfig, silence: Silence | None = None) -> None:
        super().__init__()
        self.config = config
        self.silence = silence
        self.embedding = TokenEmbedding(config.vocab_size, config.dim)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.dim))
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def routers(self) -> list[Router]:
        """The routers of the layers that have routed experts."""
        return [block.ffn.router for block in self._layers() if block.ffn.router is not None]

    def sound_frames(self, lengths_B: Tensor) -> Tensor:
        """How many of the encoder's frames are not its frames of silence."""
        return lengths_B if self.silence is None else lengths_B - self.silence.frames

    def memory_mask(self, lengths_B: Tensor, frames: int) -> Tensor | None:
        """What `forward` and `start` must know of the encoder's output `[B, frames, D]` with so many frames each."""
        if self.silence is None:
            return length_mask(lengths_B, frames)
        return self.silence.bias(lengths_B, frames)

    def forward(
        self,
        tokens_BS: Tensor,
        encoded: Tensor,
        encoded_mask: Tensor | None = None,
        counted_BS: Tensor | None = None,
    ) -> Tensor:
        """Final representations `[B, S, D]` of whole sequences; `embedding.logits` turns them into scores.

        Arguments:
            tokens_BS: int64 `[B, S]`.
            encoded: the encoder's output `[B, L, D]`.
            encoded_mask: `memory_mask`'s `[B, L]`: True for its valid frames, or what attention adds to each one's
                score; None when all are valid.
            counted_BS: True for the tokens that count as load and in the losses of the routers, in training; None when
                all do, padding and prompts included.
        """
        x = self._embed(tokens_BS, 0)
        mask = None if encoded_mask is None else encoded_mask[:, None, None, :]
        for block in self._layers():
            keys, values = block.cross_attention.keys_values(encoded)
            x = block(x, keys, values, mask, counted_BS=counted_BS)
        return self.norm(x)  # type: ignore[no-any-return]

    def start(self, encoded: Tensor, encoded_mask: Tensor | None) -> DecoderCache:
        """An empty cache for step-wise decoding, with one row an utterance."""
        heads = self.config.num_heads
        shape = (len(encoded), heads, CACHE_STEP, self.config.dim // heads)
        cache = DecoderCache([], [], [], [], None)
        lengths = valid_lengths(encoded_mask) if encoded.device.type == "cpu" else None
        for block in self._layers():
            keys, values = block.cross_attention.laid_out(encoded, lengths)
            cache.cross_keys.append(keys)
            cache.cross_values.append(values)
            cache.self_keys.append(keys.new_empty(shape))
            cache.self_values.append(keys.new_empty(shape))
        if encoded_mask is not None and encoded_mask.is_floating_point():
            cache.cross_bias = encoded_mask.to(cache.cross_keys[0].dtype)[:, None, None, :]
        elif encoded_mask is not None:
            bias = torch.zeros_like(encoded_mask, dtype=cache.cross_keys[0].dtype)
            cache.cross_bias = bias.masked_fill(~encoded_mask, -torch.inf)[:, None, None, :]
        return cache

    def step(self, tokens_RS: Tensor, cache: DecoderCache) -> Tensor:
        """Logits `[R, V]` after the last of the new tokens `[R, S]`, which are added to the cache.

        S may exceed 1 only for the first call (the prompt).
        """
        x = self._embed(tokens_RS, cache.length)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache.cross_keys[layer], cache.cross_values[layer], cache.cross_bias, cache, layer)
        cache.length += tokens_RS.shape[1]
        return self.embedding.logits(self.norm(x[:, -1])).float()

    def _layers(self) -> list[DecoderBlock]:
        return cast(list[DecoderBlock], list(self.blocks))

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        x = self.embedding(tokens)
        return x + self.positions[start : start + tokens.shape[1]].to(x.dtype)  # type: ignore[no-any-return]
