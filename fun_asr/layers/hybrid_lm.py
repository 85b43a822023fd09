"""A decoder-only network of state-space, attention, expert and plain layers: Nemotron-H (NVIDIA 2025).

Each layer is one of these behind an RMSNorm, with a residual. Attention has no positions: the state-space layers tell
it the order. As in `fun_asr.layers.causal_lm`, prefixes are packed and nothing is padded.

Shapes: B segments, N positions of all of them, R rows (the hypotheses of a search), D width, H query heads, G key
heads, d width of a head, E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.kernels import route_by_sigmoid
from fun_asr.layers import mamba2
from fun_asr.layers.causal_lm import RMSNorm
from fun_asr.layers.decoder import TokenEmbedding
from fun_asr.layers.mamba2 import Mamba2, Mamba2Config
from fun_asr.layers.moe import RoutedExperts
from fun_asr.layers.prefix_cache import PrefixCache
from fun_asr.layers.state_cache import StateCache

__all__ = ["FLOAT_PARAMETERS", "KINDS", "HybridLM", "HybridLMConfig", "LayerKind", "SharedAndRouted"]

LayerKind = Literal["state", "attention", "experts", "dense"]

FLOAT_PARAMETERS = (*mamba2.FLOAT_PARAMETERS, "router", "correction_E")
"""Last part of the names of what stays float32 whatever the matrices are."""

# Mamba-2, attention and experts of Nemotron 3 Nano 30B-A3B, as NVIDIA writes them.
NANO_PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
KINDS: dict[str, LayerKind] = {"M": "state", "*": "attention", "E": "experts", "-": "dense"}


@dataclass(frozen=True, kw_only=True)
class HybridLMConfig:
    """Sizes of a network; the defaults are those of Nemotron 3 Nano 30B-A3B."""

    vocab_size: int = 131_072
    dim: int = 2688
    layers: tuple[LayerKind, ...] = tuple(KINDS[letter] for letter in NANO_PATTERN)
    state: Mamba2Config = field(default_factory=Mamba2Config)
    num_heads: int = 32
    num_key_heads: int = 2
    head_dim: int = 128
    ffn_dim: int = 1856
    """Hidden width of the dense layers."""
    num_experts: int = 128
    num_experts_per_token: int = 6
    expert_dim: int = 1856
    """Hidden width of an expert."""
    shared_dim: int = 3712
    """Hidden width of the expert that every token uses."""
    renormalise: bool = True
    """Whether the weights of a token's experts sum to `expert_scale`."""
    expert_scale: float = 2.5
    ffn_bias: bool = False
    norm_eps: float = 1e-5


class PlainAttention(nn.Module):
    """Causal attention without positions, in which several query heads share a key head (Ainslie et al. 2023)."""

    def __init__(self, config: HybridLMConfig) -> None:
        super().__init__()
        self.heads = config.num_heads, config.num_key_heads, config.num_key_heads
        self.qkv = nn.Linear(config.dim, sum(self.heads) * config.head_dim, bias=False)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=False)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries `[N, H, d]`, keys and values `[N, G, d]`."""
        queries, keys, values = self.qkv(x).unflatten(-1, (sum(self.heads), -1)).split(self.heads, dim=1)
        return queries, keys, values

    def forward(self, x_ND: Tensor, lengths: Sequence[int], cache: PrefixCache | None) -> Tensor:
        """Attention within each of the packed segments."""
        queries, keys, values = (part.transpose(0, 1) for part in self._project(x_ND))
        if cache is not None:
            cache.add_layer(keys, values)
        parts = []
        for q, k, v in zip(*(part.split(list(lengths), dim=1) for part in (queries, keys, values)), strict=True):
            y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)
            parts.append(y[0].transpose(0, 1).flatten(1))
        return self.out(torch.cat(parts))  # type: ignore[no-any-return]

    def step(self, x_RD: Tensor, cache: PrefixCache, layer: int) -> Tensor:
        """Attention of one more token of each hypothesis; `layer` counts those of attention."""
        return self.out(cache.attend(layer, *self._project(x_RD)))  # type: ignore[no-any-return]


class SquaredFeedForward(nn.Module):
    """Two products with the square of ReLU between them (So et al. 2021)."""

    def __init__(self, dim: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x_ND)).square())  # type: ignore[no-any-return]


class SharedAndRouted(nn.Module):
    """An expert that every token uses, and those that a router with independent scores chooses."""

    correction_E: Tensor

    def __init__(self, config: HybridLMConfig) -> None:
        super().__init__()
        self.config = config
        self.router = nn.Parameter(torch.empty(config.num_experts, config.dim))
        # Kept even loads in training; it chooses, and weighs nothing.
        self.register_buffer("correction_E", torch.zeros(config.num_experts))
        self.experts = RoutedExperts(config.dim, config.num_experts, config.expert_dim, "relu2")
        self.shared = SquaredFeedForward(config.dim, config.shared_dim, config.ffn_bias)

    def forward(self, x_ND: Tensor) -> Tensor:
        config = self.config
        routing = route_by_sigmoid(
            F.linear(x_ND.float(), self.router.float()),
            config.num_experts_per_token,
            self.correction_E,
            renormalize=config.renormalise,
            scale=config.expert_scale,
        )
        return self.experts(x_ND, routing).to(x_ND.dtype) + self.shared(x_ND)  # type: ignore[no-any-return]


class HybridBlock(nn.Module):
    """A norm and a layer of one of the kinds, with a residual."""

    def __init__(self, config: HybridLMConfig, kind: LayerKind) -> None:
        super().__init__()
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.inner: nn.Module
        if kind == "state":
            self.inner = Mamba2(config.state)
        elif kind == "attention":
            self.inner = PlainAttention(config)
        elif kind == "experts":
            self.inner = SharedAndRouted(config)
        else:
            self.inner = SquaredFeedForward(config.dim, config.ffn_dim, config.ffn_bias)

    @property
    def device(self) -> torch.device:
        """Where the layer computes: a network's layers may lie on several devices."""
        return self.norm.weight.device

    def forward(self, x_ND: Tensor, lengths: Sequence[int], cache: StateCache | None) -> Tensor:
        y = self.norm(x_ND)
        if isinstance(self.inner, Mamba2):
            y, last, state = self.inner(y, lengths)
            if cache is not None:
                cache.add_state(last, state)
        else:
            y = self.inner(y, lengths, cache) if isinstance(self.inner, PlainAttention) else self.inner(y)
        return x_ND + y  # type: ignore[no-any-return]

    def step(self, x_RD: Tensor, cache: StateCache, layer: int) -> Tensor:
        """One more token of each hypothesis; `layer` counts those of this one's kind."""
        y = self.norm(x_RD)
        if isinstance(self.inner, Mamba2):
            y = self.inner.step(y, *cache.state(layer, len(y)))
        else:
            y = self.inner.step(y, cache, layer) if isinstance(self.inner, PlainAttention) else self.inner(y)
        return x_RD + y  # type: ignore[no-any-return]


class HybridLM(nn.Module):
    """Vectors or tokens to next-token logits, used as `fun_asr.layers.causal_lm.CausalLM` is."""

    def __init__(self, config: HybridLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TokenEmbedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(HybridBlock(config, kind) for kind in config.layers)
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors between the layers."""
        return self.norm.weight.dtype

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors `[..., D]` of tokens `[...]`."""
        return self.embedding(tokens).to(self.dtype)  # type: ignore[no-any-return]

    def forward(self, prefixes_ND: Tensor, lengths: Sequence[int], cache: StateCache | None = None) -> Tensor:
        """Read the prefixes of some segments, each on its own.

        Arguments:
            prefixes_ND: vectors `[N, D]` of all segments, one segment after the other.
            lengths: of each segment, at least 1; they sum to N.
            cache: an empty one keeps what `step` needs.

        Returns:
            final representations `[N, D]`; `logits` turns them into scores.
        """
        x_ND = prefixes_ND.to(self.dtype)
        for block in self._blocks():
            x_ND = block(x_ND.to(block.device), lengths, cache)
        return self.norm(x_ND.to(self.norm.weight.device))  # type: ignore[no-any-return]

    def start(self, prefixes_ND: Tensor, lengths: Sequence[int]) -> tuple[Tensor, StateCache]:
        """Read the prefixes; returns logits `[B, V]` after each, and the cache to go on from.

        Arguments: as for `forward`.
        """
        cache = StateCache(lengths, prefixes_ND.device)
        ends = torch.tensor(lengths, device=prefixes_ND.device).cumsum(0) - 1
        return self.logits(self(prefixes_ND, lengths, cache)[ends]), cache

    def step(self, tokens_R: Tensor, cache: PrefixCache) -> Tensor:
        """Logits `[R, V]` after one more token of each hypothesis, int64 `[R]`; the cache is that of `start`."""
        assert isinstance(cache, StateCache)
        x_RD = self.embed(cache.arrange(tokens_R))
        cache.advance()
        counts: dict[LayerKind, int] = dict.fromkeys(KINDS.values(), 0)
        for kind, block in zip(self.config.layers, self._blocks(), strict=True):
            x_RD = block.step(x_RD.to(block.device), cache, counts[kind])
            counts[kind] += 1
        return self.logits(self.norm(cache.restore(x_RD.to(self.norm.weight.device))))

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]` float32."""
        return self.head(x).float()  # type: ignore[no-any-return]

    def _blocks(self) -> list[HybridBlock]:
        return cast(list[HybridBlock], list(self.layers))
