"""A decoder-only transformer of the Qwen3 shape, dense or with a mixture of experts (Yang et al. 2025).

RMSNorm before each part, rotary positions, grouped-query attention with normalised queries and keys, and SwiGLU. What
it reads first, a prefix of vectors for each segment, is packed: segments of different lengths follow one another and
nothing is padded.

Shapes: B segments, N positions of all of them, R rows (the hypotheses of a search), D width, H query heads, G key
heads, d width of a head, E experts, F hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.kernels import route
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.moe import RoutedExperts
from fun_asr.layers.prefix_cache import PrefixCache

__all__ = ["CausalLM", "CausalLMConfig"]


@dataclass(frozen=True, kw_only=True)
class CausalLMConfig:
    """Sizes of a decoder-only transformer; the defaults are those of Qwen3-0.6B."""

    vocab_size: int = 151_936
    dim: int = 1024
    num_layers: int = 28
    num_heads: int = 16
    num_key_heads: int = 8
    """Key and value heads, each shared by `num_heads / num_key_heads` query heads."""
    head_dim: int = 128
    ffn_dim: int = 3072
    """Hidden width of the layers without experts."""
    num_experts: int = 0
    """0: no layer has any."""
    num_experts_per_token: int = 8
    expert_dim: int = 768
    """Hidden width of an expert."""
    renormalise: bool = True
    """Whether the weights of a token's experts sum to one."""
    dense_layers: tuple[int, ...] = ()
    """Layers without experts in a model that has some."""
    norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    attention_bias: bool = False
    tied: bool = True
    """Whether the output projection is the embedding."""

    def has_experts(self, layer: int) -> bool:
        """Whether a layer's feed-forward is a mixture of experts."""
        return self.num_experts > 0 and layer not in self.dense_layers


class RMSNorm(nn.Module):
    """Division by the root mean square of the last dimension (Zhang & Sennrich 2019), times a weight.

    Arguments:
        shape: of the weight, whose last dimension is the one that is normalised.
        eps: added to the mean square.
    """

    def __init__(self, shape: int | tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = wide.square().mean(dim=-1, keepdim=True).add_(self.eps).rsqrt_()
        return (wide * scale).to(x.dtype) * self.weight


class Rotation:
    """Rotary positions (Su et al. 2021) of some tokens: dimension i turns with dimension i + d / 2.

    Arguments:
        positions: int64 `[N]`.
        config: with the base of the angles.
        dtype: of what is rotated.
    """

    def __init__(self, positions: Tensor, config: CausalLMConfig, dtype: torch.dtype) -> None:
        steps = torch.arange(0, config.head_dim, 2, device=positions.device, dtype=torch.float32)
        angles = positions[:, None, None].float() * config.rope_theta ** -(steps / config.head_dim)
        self._cos = torch.cat((angles.cos(), angles.cos()), dim=-1).to(dtype)
        self._sin = torch.cat((-angles.sin(), angles.sin()), dim=-1).to(dtype)

    def to(self, device: torch.device) -> Rotation:
        """The same on another device."""
        if self._cos.device != device:
            self._cos, self._sin = self._cos.to(device), self._sin.to(device)
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate `[N, heads, d]`."""
        return (x * self._cos).addcmul_(x.roll(x.shape[-1] // 2, dims=-1), self._sin)


class GroupedQueryAttention(nn.Module):
    """Causal attention in which several query heads share a key head (Ainslie et al. 2023)."""

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.heads = config.num_heads, config.num_key_heads, config.num_key_heads
        both = config.num_heads + config.num_key_heads
        self.qkv = nn.Linear(config.dim, sum(self.heads) * config.head_dim, bias=config.attention_bias)
        # One weight a head: queries and keys are normalised and rotated together.
        self.norm = RMSNorm((both, config.head_dim), config.norm_eps)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=config.attention_bias)

    def _project(self, x_ND: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[N, H, d]`, keys and values `[N, G, d]`."""
        qkv = self.qkv(x_ND).unflatten(-1, (sum(self.heads), -1))
        turned, values = qkv.split((self.heads[0] + self.heads[1], self.heads[2]), dim=1)
        queries, keys = rotation(self.norm(turned)).split(self.heads[:2], dim=1)
        return queries, keys, values

    def forward(self, x_ND: Tensor, rotation: Rotation, lengths: Sequence[int], cache: PrefixCache | None) -> Tensor:
        """Attention within each of the packed segments.

        Arguments:
            x_ND: `[N, D]`.
            rotation: of its positions.
            lengths: of the segments, which sum to N.
            cache: takes the keys and values as the next layer's prefix.
        """
        queries, keys, values = (part.transpose(0, 1) for part in self._project(x_ND, rotation))
        if cache is not None:
            cache.add_layer(keys, values)
        parts = []
        for q, k, v in zip(*(part.split(list(lengths), dim=1) for part in (queries, keys, values)), strict=True):
            y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)
            parts.append(y[0].transpose(0, 1).flatten(1))
        return self.out(torch.cat(parts))  # type: ignore[no-any-return]

    def step(self, x_RD: Tensor, rotation: Rotation, cache: PrefixCache, layer: int) -> Tensor:
        """Attention of one more token of each hypothesis to all before it and itself."""
        queries, keys, values = self._project(x_RD, rotation)
        return self.out(cache.attend(layer, queries, keys, values))  # type: ignore[no-any-return]


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020); gate and up projection are one matrix."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        gate, up = self.gate_up(x_ND).chunk(2, dim=-1)
        return self.down(F.silu(gate).mul_(up))  # type: ignore[no-any-return]


class ExpertsFeedForward(nn.Module):
    """A mixture of SwiGLU experts, of which each token uses K, without a shared one."""

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.num_experts_per_token = config.num_experts_per_token
        self.renormalise = config.renormalise
        self.router = nn.Parameter(torch.empty(config.num_experts, config.dim))
        self.experts = RoutedExperts(config.dim, config.num_experts, config.expert_dim)

    def forward(self, x_ND: Tensor) -> Tensor:
        logits_NE = F.linear(x_ND, self.router.to(x_ND.dtype))
        routing = route(logits_NE, self.num_experts_per_token, renormalize=self.renormalise)
        return self.experts(x_ND, routing).to(x_ND.dtype)  # type: ignore[no-any-return]


class CausalBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: CausalLMConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = GroupedQueryAttention(config)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn = (
            ExpertsFeedForward(config) if config.has_experts(layer) else GatedFeedForward(config.dim, config.ffn_dim)
        )

    @property
    def device(self) -> torch.device:
        """Where the layer computes: a network's layers may lie on several devices."""
        return self.attention_norm.weight.device

    def forward(self, x_ND: Tensor, rotation: Rotation, lengths: Sequence[int], cache: PrefixCache | None) -> Tensor:
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), rotation, lengths, cache)
        return x_ND + self.ffn(self.ffn_norm(x_ND))  # type: ignore[no-any-return]

    def step(self, x_RD: Tensor, rotation: Rotation, cache: PrefixCache, layer: int) -> Tensor:
        x_RD = x_RD + self.attention.step(self.attention_norm(x_RD), rotation, cache, layer)
        return x_RD + self.ffn(self.ffn_norm(x_RD))  # type: ignore[no-any-return]


class CausalLM(nn.Module):
    """Vectors or tokens to next-token logits.

    A search reads the prefixes once, with `forward` and a cache, and goes on with `step`; a model that labels what it
    reads uses `forward` alone. `fun_asr.decoding.prefixed` searches.
    """

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.config = config
        self.cache_dtype: torch.dtype | None = None
        """Of the keys and values that a search keeps; None keeps them as they are computed."""
        self.embedding = TokenEmbedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(CausalBlock(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = None if config.tied else nn.Linear(config.dim, config.vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors between the layers."""
        return self.norm.weight.dtype

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors `[..., D]` of tokens `[...]`."""
        return self.embedding(tokens).to(self.dtype)  # type: ignore[no-any-return]

    def forward(self, prefixes_ND: Tensor, lengths: Sequence[int], cache: PrefixCache | None = None) -> Tensor:
        """Read the prefixes of some segments, each on its own.

        Arguments:
            prefixes_ND: vectors `[N, D]` of all segments, one segment after the other.
            lengths: of each segment, at least 1; they sum to N.
            cache: an empty one keeps what `step` needs.

        Returns:
            final representations `[N, D]`; `logits` turns them into scores.
        """
        device = prefixes_ND.device
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        x_ND = prefixes_ND.to(self.dtype)
        rotation = Rotation(positions, self.config, self.dtype)
        for block in self._blocks():
            x_ND = block(x_ND.to(block.device), rotation.to(block.device), lengths, cache)
        return self.norm(x_ND.to(self.norm.weight.device))  # type: ignore[no-any-return]

    def start(self, prefixes_ND: Tensor, lengths: Sequence[int]) -> tuple[Tensor, PrefixCache]:
        """Read the prefixes; returns logits `[B, V]` after each, and the cache to go on from.

        Arguments: as for `forward`.
        """
        cache = PrefixCache(lengths, prefixes_ND.device, self.cache_dtype)
        ends = torch.tensor(lengths, device=prefixes_ND.device).cumsum(0) - 1
        return self.logits(self(prefixes_ND, lengths, cache)[ends]), cache

    def step(self, tokens_R: Tensor, cache: PrefixCache) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis, int64 `[R]`."""
        x_RD = self.embed(cache.arrange(tokens_R))
        rotation = Rotation(cache.advance(), self.config, self.dtype)
        for layer, block in enumerate(self._blocks()):
            x_RD = block.step(x_RD.to(block.device), rotation.to(block.device), cache, layer)
        return self.logits(self.norm(cache.restore(x_RD.to(self.norm.weight.device))))

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]` float32."""
        scores: Tensor = self.embedding.logits(x) if self.head is None else self.head(x)
        return scores.float()

    def _blocks(self) -> list[CausalBlock]:
        return cast(list[CausalBlock], list(self.layers))
