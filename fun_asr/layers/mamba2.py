"""A state-space layer: Mamba-2 (Dao & Gu 2024), read in chunks and continued a token at a time.

What it reads first, prefixes of segments of different lengths, is packed: segments follow one another, and the
projections, where nearly all of the time goes, compute nothing of padding. Within a chunk the layer is a product like
attention's; from chunk to chunk goes the state alone. States and what decays are float32, whatever the matrices are.

Shapes: B segments, N positions of all of them, R rows (hypotheses), D width, H heads, P width of a head, G groups of
heads that share their input and output weights, S size of a state, W channels of the convolution (H * P + 2 * G * S),
K its taps, C chunks, L positions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FLOAT_PARAMETERS", "Mamba2", "Mamba2Config"]

FLOAT_PARAMETERS = ("decay_H", "skip_H", "step_bias_H")
"""Parameters that stay float32: what is multiplied over thousands of positions."""


@dataclass(frozen=True, kw_only=True)
class Mamba2Config:
    """Sizes of a layer; the defaults are those of Nemotron 3 Nano 30B-A3B."""

    dim: int = 2688
    num_heads: int = 64
    head_dim: int = 64
    num_groups: int = 8
    state_size: int = 128
    taps: int = 4
    """Of the convolution: positions that it sees."""
    chunk: int = 128
    """Positions that are read at once."""
    conv_bias: bool = True
    bias: bool = False
    """Of the projections."""
    least_step: float = 0.001
    """Steps are no smaller while prefixes are read; as published, those of single tokens may be."""
    norm_eps: float = 1e-5

    @property
    def inner_dim(self) -> int:
        """Width of all heads."""
        return self.num_heads * self.head_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the convolution."""
        return self.inner_dim + 2 * self.num_groups * self.state_size


class GatedGroupNorm(nn.Module):
    """Root-mean-square norm of each group of what a gate lets through, times a weight."""

    def __init__(self, dim: int, num_groups: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.num_groups, self.eps = num_groups, eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Arguments: x float32 `[..., D]`; gate `[..., D]`, whose dtype the result has."""
        x = (x * F.silu(gate.float())).unflatten(-1, (self.num_groups, -1))
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return (x.flatten(-2) * self.weight.float()).to(gate.dtype)


class Mamba2(nn.Module):
    """One layer: projection, short causal convolution, selective state space, gated norm, projection."""

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.config = config
        self.project_in = nn.Linear(config.dim, config.inner_dim + config.conv_dim + config.num_heads, bias=config.bias)
        self.conv_WK = nn.Parameter(torch.empty(config.conv_dim, config.taps))
        self.conv_bias_W = nn.Parameter(torch.zeros(config.conv_dim)) if config.conv_bias else None
        self.step_bias_H = nn.Parameter(torch.ones(config.num_heads))
        self.decay_H = nn.Parameter(torch.zeros(config.num_heads))
        """Logarithm of the decay of each head, before its sign."""
        self.skip_H = nn.Parameter(torch.ones(config.num_heads))
        self.norm = GatedGroupNorm(config.inner_dim, config.num_groups, config.norm_eps)
        self.out = nn.Linear(config.inner_dim, config.dim, bias=config.bias)

    def forward(self, x_ND: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Read the prefixes of some segments, each on its own.

        Arguments:
            x_ND: `[N, D]`.
            lengths: of the segments, at least 1; they sum to N.

        Returns:
            `[N, D]`, and what `step` goes on from: the convolution's last inputs `[B, W, K - 1]`, and the states
            `[B, H, P, S]`, float32.
        """
        gate, x_NW, step_NH = self._project(x_ND)
        last = self._last_inputs(x_NW, lengths)
        inputs, into, out_of = self._split(self._convolved(x_NW, lengths))
        step_NH = F.softplus(step_NH.float() + self.step_bias_H.float()).clamp_min(self.config.least_step)
        y_NHP, state = self._scan(inputs, step_NH, into, out_of, lengths)
        return self._finished(y_NHP, inputs, gate), last, state

    def step(self, x_RD: Tensor, last: Tensor, state: Tensor) -> Tensor:
        """One more token of each hypothesis.

        Arguments:
            x_RD: `[R, D]`.
            last, state: `[R, W, K - 1]` and `[R, H, P, S]`, which change.
        """
        config = self.config
        gate, x_RW, step_RH = self._project(x_RD)
        window = torch.cat((last, x_RW[..., None]), dim=-1)
        last.copy_(window[..., 1:])
        x_RW = (window * self.conv_WK).sum(dim=-1)
        inputs, into, out_of = self._split(F.silu(x_RW if self.conv_bias_W is None else x_RW + self.conv_bias_W))
        step_RH = F.softplus(step_RH.float() + self.step_bias_H.float())
        by_group = (config.num_groups, config.num_heads // config.num_groups)
        grouped = state.unflatten(1, by_group)  # [R, G, H / G, P, S]
        grouped.mul_((step_RH * -self.decay_H.float().exp()).exp().unflatten(1, by_group)[..., None, None])
        added = (inputs * step_RH[..., None]).unflatten(1, by_group)[..., None]
        grouped.addcmul_(added, into[:, :, None, None])
        y = torch.matmul(grouped.flatten(2, 3), out_of[..., None])[..., 0]  # [R, G, H / G * P]
        return self._finished(y.reshape(inputs.shape), inputs, gate)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gate `[..., H * P]`, the convolution's input `[..., W]` and the steps `[..., H]`."""
        sizes = (self.config.inner_dim, self.config.conv_dim, self.config.num_heads)
        gate, x, step = self.project_in(x).split(sizes, dim=-1)
        return gate, x, step

    def _convolved(self, x_NW: Tensor, lengths: Sequence[int]) -> Tensor:
        """Each position and the K - 1 before it in its segment, weighed and activated."""
        places_N = torch.cat([torch.arange(length, device=x_NW.device) for length in lengths])
        y = x_NW * self.conv_WK[:, -1]
        for back in range(1, min(self.config.taps, max(lengths))):
            seen = (places_N[back:] >= back)[:, None]
            y[back:] += torch.where(seen, x_NW[:-back], 0) * self.conv_WK[:, -1 - back]
        return F.silu(y if self.conv_bias_W is None else y + self.conv_bias_W)

    def _last_inputs(self, x_NW: Tensor, lengths: Sequence[int]) -> Tensor:
        """The K - 1 last positions of each segment, zeros before its start, `[B, W, K - 1]`."""
        kept = self.config.taps - 1
        last = x_NW.new_zeros(len(lengths), x_NW.shape[1], kept)
        for into, part in zip(last, x_NW.split(list(lengths)), strict=True):
            tail = part[max(0, len(part) - kept) :]
            into[:, kept - len(tail) :] = tail.T
        return last

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32: the heads' inputs `[..., H, P]`, weights into their states and out of them `[..., G, S]`."""
        config = self.config
        shared = config.num_groups * config.state_size
        inputs, into, out_of = x.float().split((config.inner_dim, shared, shared), dim=-1)
        by_group = (config.num_groups, config.state_size)
        return (
            inputs.unflatten(-1, (config.num_heads, config.head_dim)),
            into.unflatten(-1, by_group),
            out_of.unflatten(-1, by_group),
        )

    def _finished(self, y: Tensor, inputs: Tensor, gate: Tensor) -> Tensor:
        y = y + self.skip_H.float()[:, None] * inputs
        return self.out(self.norm(y.flatten(-2), gate))  # type: ignore[no-any-return]

    def _scan(
        self, inputs: Tensor, step_NH: Tensor, into: Tensor, out_of: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """What the states let out, `[N, H, P]`, and the states at the end of each segment `[B, H, P, S]`."""
        L, by_group = self.config.chunk, (self.config.num_groups, self.config.num_heads // self.config.num_groups)
        counts = [-(-length // L) for length in lengths]
        places = _places(lengths, counts, L).to(inputs.device)

        def chunked(x: Tensor) -> Tensor:
            """`[N, ...]` to `[C, L, ...]`; with a step of zero, what fills the last chunk changes no state."""
            filled = x.new_zeros(sum(counts) * L, *x.shape[1:]).index_copy_(0, places, x)
            return filled.view(-1, L, *x.shape[1:])

        step = chunked(step_NH).unflatten(2, by_group)  # [C, L, G, h]
        x = chunked(inputs).unflatten(2, by_group) * step[..., None]  # [C, L, G, h, P]
        into, out_of = chunked(into), chunked(out_of)  # [C, L, G, S]
        decayed = (step * -self.decay_H.float().exp().unflatten(0, by_group)).cumsum(dim=1)  # [C, L, G, h]
        # Within a chunk: what position l takes of position s, as in attention.
        log_decay = decayed[:, :, None] - decayed[:, None]  # [C, l, s, G, h]
        later = torch.ones(L, L, dtype=torch.bool, device=x.device).triu_(1)[..., None, None]
        weights = (
            torch.einsum("clgn,csgn->clsg", out_of, into)[..., None] * log_decay.masked_fill_(later, -torch.inf).exp_()
        )
        y = torch.einsum("clsgh,csghp->clghp", weights, x)
        # What a chunk leaves in the states, and what it lets out of those before it.
        left = (decayed[:, -1:] - decayed).exp_()[..., None] * x
        left = torch.einsum("csghp,csgn->cghpn", left, into)
        before, last = _carried(left, decayed[:, -1].exp(), counts)
        y += torch.einsum("clgn,cghpn->clghp", out_of, before) * decayed.exp()[..., None]
        return y.flatten(0, 1).index_select(0, places).flatten(1, 2), last.flatten(1, 2)


def _places(lengths: Sequence[int], counts: Sequence[int], chunk: int) -> Tensor:
    """Where each packed position is when every segment begins a chunk, int64 `[N]`."""
    starts, first = [], 0
    for count in counts:
        starts.append(first * chunk)
        first += count
    return torch.cat([torch.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)])


def _carried(left: Tensor, decay: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """States before each chunk `[C, G, h, P, S]` and at the end of each segment `[B, G, h, P, S]`.

    Arguments:
        left: what each chunk leaves, `[C, G, h, P, S]`.
        decay: what each chunk leaves of the state before it, `[C, G, h]`.
        counts: of each segment's chunks.
    """
    firsts = torch.tensor([0, *counts[:-1]]).cumsum(0)
    before, last = torch.zeros_like(left), left.new_zeros(len(counts), *left.shape[1:])
    for turn in range(max(counts)):
        segments = torch.tensor([b for b, count in enumerate(counts) if count > turn])
        chunks, segments = (firsts[segments] + turn).to(left.device), segments.to(left.device)
        state = last[segments]
        before[chunks] = state
        last[segments] = state * decay[chunks][..., None, None] + left[chunks]
    return before, last
