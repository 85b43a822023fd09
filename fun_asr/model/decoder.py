"""The autoregressive decoder: causal self-attention, cross-attention to the encoder and an MoE feed-forward per layer.

Shapes: B utterances, W hypotheses per utterance (1 in greedy search), R = B * W rows, S tokens, L encoder frames,
D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.model.config import DecoderConfig
from fun_asr.model.moe import MoEFeedForward, Router


@dataclass
class DecoderCache:
    """Keys and values of what was decoded so far (per hypothesis) and of the encoder's output (per utterance)."""

    self_keys: list[Tensor]
    """`[R, H, room, D / H]` a layer, of which `length` tokens are filled; the room grows."""
    self_values: list[Tensor]
    cross_keys: list[Tensor]
    """`[B, H, L, D / H]` a layer: shared by the W hypotheses of an utterance."""
    cross_values: list[Tensor]
    cross_bias: Tensor | None
    """Added to the scores, `[B, 1, 1, L]`: 0 for valid frames, minus infinity for others; None when all are valid."""
    length: int = 0
    """Tokens cached."""
    places: Tensor | None = None
    """Of each row in a `[B, W]` grid, int64 `[R]`, when utterances differ in how many hypotheses they have; None when
    row r is in place r."""
    width: int = 1
    """W, the most hypotheses of an utterance."""

    def select_rows(self, rows: Tensor) -> None:
        """Keep, repeat or reorder hypotheses: `rows` indexes the R rows."""
        for cached in (self.self_keys, self.self_values):
            cached[:] = [tensor.index_select(0, rows) for tensor in cached]

    def lay_out(self, counts: Sequence[int]) -> None:
        """Say how many of the rows, in their order, belong to each utterance."""
        self.width = max(counts)
        self.places = None
        if min(counts) < self.width:
            places = [b * self.width + rank for b, count in enumerate(counts) for rank in range(count)]
            self.places = torch.tensor(places, device=self.cross_keys[0].device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's keys and values `[R, H, S, D / H]` of new tokens; returns all that it has, new ones included.

        `length` stays: it counts the tokens that every layer has.
        """
        end = self.length + keys.shape[2]
        for cached, new in ((self.self_keys, keys), (self.self_values, values)):
            tensor = cached[layer]
            if end > tensor.shape[2]:
                # In steps: room for the longest text would be touched a page a token and head, and be moved as often.
                room = -(-end // CACHE_STEP) * CACHE_STEP
                grown = tensor.new_empty(*tensor.shape[:2], room, tensor.shape[3])
                grown[:, :, : self.length] = tensor[:, :, : self.length]
                cached[layer] = tensor = grown
            tensor[:, :, self.length : end] = new
        return self.self_keys[layer][:, :, :end], self.self_values[layer][:, :, :end]

    def keep_utterances(self, kept: Sequence[int]) -> list[int]:
        """Drop all utterances but `kept`, ascending; their encoder keys and values change places.

        Returns:
            which utterance is now in each place. Those of the last places move to the free ones before them: most stay
            where they are, and nothing is allocated.
        """
        count = len(kept)
        moving = iter(b for b in kept if b >= count)
        stays = set(kept)
        order = [b if b in stays else next(moving) for b in range(count)]
        for place, b in enumerate(order):
            if place != b:
                for tensor in (*self.cross_keys, *self.cross_values):
                    tensor[place] = tensor[b]
                if self.cross_bias is not None:
                    self.cross_bias[place] = self.cross_bias[b]
        for cached in (self.cross_keys, self.cross_values):
            cached[:] = [tensor[:count] for tensor in cached]
        if self.cross_bias is not None:
            self.cross_bias = self.cross_bias[:count]
        return order


FEW_QUERIES = 16
CACHE_STEP = 16


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention of queries `[B, H, Q, D / H]` to keys and values `[B, H, L, D / H]`, in the dtype of the keys.

    Arguments:
        mask: broadcastable to `[B, H, Q, L]`: False or minus infinity where a query must not look; None for nowhere.
        causal: query i looks at keys 0 to i.
    """
    q = q.to(k.dtype)
    # Of few queries torch's fused CPU kernel makes two to four times the work that two plain products are.
    if q.device.type != "cpu" or q.shape[2] > FEW_QUERIES or causal or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
    return torch.matmul(scores.softmax(dim=-1).to(v.dtype), v)


class CausalSelfAttention(nn.Module):
    """Multi-head attention to the tokens so far."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, cache: DecoderCache | None = None, layer: int = 0) -> Tensor:
        R, S, D = x.shape
        q, k, v = self.qkv(x).view(R, S, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.append(layer, k, v)
        if S > 1 and k.shape[2] != S:
            raise ValueError("several tokens at once are decoded only at the start of a sequence")
        y = attend(q, k, v, causal=S > 1)
        return self.out(y.transpose(1, 2).reshape(R, S, D))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Multi-head attention to the encoder's output."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, L, D]` to keys and values `[B, H, L, D / H]`."""
        B, L, _ = memory.shape
        keys, values = self.kv(memory).view(B, L, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        return keys, values

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, cache: DecoderCache | None = None
    ) -> Tensor:
        # The W hypotheses of an utterance read the same keys: they are laid out as more queries of one row.
        S, D = x.shape[1:]
        B = len(keys)
        q = self.q(x)
        places = None if cache is None else cache.places
        if cache is not None and places is not None:
            q = q.new_zeros(B * cache.width, S, D).index_copy_(0, places, q)
        q = q.view(B, -1, self.num_heads, D // self.num_heads).transpose(1, 2)  # [B, H, W * S, D / H]
        y = attend(q, keys, values, mask).transpose(1, 2).reshape(-1, S, D)
        if places is not None:
            y = y.index_select(0, places)
        return self.out(y)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and MoE feed-forward, each with a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(config.dim)
        self.self_attention = CausalSelfAttention(config.dim, config.num_heads)
        self.cross_norm = nn.LayerNorm(config.dim)
        self.cross_attention = CrossAttention(config.dim, config.num_heads)
        self.ffn_norm = nn.LayerNorm(config.dim)
        self.ffn = MoEFeedForward(config)

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
    """Tokens and the encoder's output to next-token logits."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config.vocab_size, config.dim)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.dim))
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def routers(self) -> list[Router]:
        """The routers of the layers that have routed experts."""
        return [block.ffn.router for block in self._layers() if block.ffn.router is not None]

    def forward(
        self,
        tokens_BS: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        counted_BS: Tensor | None = None,
    ) -> Tensor:
        """Final representations `[B, S, D]` of whole sequences; `embedding.logits` turns them into scores.

        Arguments:
            tokens_BS: int64 `[B, S]`.
            memory: the encoder's output `[B, L, D]`.
            memory_mask: True for its valid frames, `[B, L]`; None when all are.
            counted_BS: True for the tokens that count as load and in the losses of the routers, in training; None when
                all do, padding and prompts included.
        """
        x = self._embed(tokens_BS, 0)
        mask = None if memory_mask is None else memory_mask[:, None, None, :]
        for block in self._layers():
            keys, values = block.cross_attention.keys_values(memory)
            x = block(x, keys, values, mask, counted_BS=counted_BS)
        return self.norm(x)  # type: ignore[no-any-return]

    def start(self, memory: Tensor, memory_mask: Tensor | None) -> DecoderCache:
        """An empty cache for step-wise decoding, with one row an utterance."""
        heads = self.config.num_heads
        shape = (len(memory), heads, CACHE_STEP, self.config.dim // heads)
        cache = DecoderCache([], [], [], [], None)
        for block in self._layers():
            keys, values = block.cross_attention.keys_values(memory)
            # Every step reads all of them: contiguous, that takes two thirds of the time.
            cache.cross_keys.append(keys.contiguous())
            cache.cross_values.append(values.contiguous())
            cache.self_keys.append(keys.new_empty(shape))
            cache.self_values.append(keys.new_empty(shape))
        if memory_mask is not None:
            bias = torch.zeros_like(memory_mask, dtype=cache.cross_keys[0].dtype)
            cache.cross_bias = bias.masked_fill(~memory_mask, -torch.inf)[:, None, None, :]
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
