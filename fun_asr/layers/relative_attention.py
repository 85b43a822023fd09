"""Self-attention with relative positions: over all frames, a band of them, or blocks.

Shapes: B utterances, L frames, D width, H heads, d = D / H; N sequences that attend together, Q queries, K keys.
Sources: Dai et al. 2019 (Transformer-XL: what a query asks of a content and of a distance), Shaw et al. 2018 (a learnt
vector for each distance), Rekesh et al. 2023 (Fast Conformer: bands).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BlockAttention", "RelativeAttention", "attend_at_distances", "relative_sinusoids"]

QUERIES_AT_ONCE = 128  # on the CPU: their scores stay in the cache, and few of the distances are beyond all keys
FEW_SCORES = 2**18  # of more, float32 copies leave the cache
KEPT_FRAMES = 1024  # longest sequence whose projected distances stay in memory


def relative_sinusoids(frames: int, dim: int) -> Tensor:
    """Sinusoids of the distances from `frames - 1` frames before to as many after, float32 `[2 * frames - 1, dim]`.

    Sines and cosines alternate. A frame before the query is at a positive angle.
    """
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angles = torch.arange(frames - 1, -frames, -1, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def skewed(scores: Tensor, keys: int) -> Tensor:
    """Scores of distances as scores of keys, without a copy.

    Arguments:
        scores: contiguous `[..., Q, keys + Q - 1]`: of each query all distances, from that of the last query to the
            first key to that of the first query to the last key.
        keys: their number K.

    Returns:
        a view `[..., Q, K]`.
    """
    queries, distances = scores.shape[-2:]
    return scores.as_strided(
        (*scores.shape[:-1], keys),
        (*scores.stride()[:-2], distances - 1, 1),
        scores.storage_offset() + queries - 1,
    )


def attend_at_distances(
    q: Tensor,
    q_distance: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    mask: Tensor | None = None,
    band: tuple[int, int] | None = None,
) -> Tensor:
    """Softmax attention whose scores are a query's products with the keys and with the distances to them.

    Arguments:
        q: queries that ask for contents, scaled, `[N, H, L, d]`.
        q_distance: queries that ask for distances, scaled, `[N, H, L, d]`.
        k, v: keys and values `[N, H, L, d]`.
        table: of each distance, from a key L - 1 frames before the query to one as far after it, `[H, 2 * L - 1, d]`,
            or `[1, ...]` where all heads share it.
        mask: which keys count, bool `[N, L]`; None for all.
        band: how many frames before and after it a query looks at; None for all.

    Returns:
        `[N, H, L, d]`.
    """
    N, H, L, d = q.shape
    step = QUERIES_AT_ONCE if q.device.type == "cpu" or band is not None else L
    parts = []
    for start in range(0, L, step):
        end = min(start + step, L)
        first, last = (0, L) if band is None else (max(0, start - band[0]), min(L, end + band[1]))
        shape = (N * H, end - start, last - first)
        # The sequences of a head are side by side: one product with a table that is not copied for each of them.
        rows = q_distance[:, :, start:end].transpose(0, 1).reshape(len(table), -1, d)
        distances = table[:, first - end + L : last - start + L - 1]
        by_distance = torch.bmm(rows, distances.transpose(1, 2)).view(H, N, end - start, -1)
        scores = torch.baddbmm(
            skewed(by_distance, last - first).transpose(0, 1).reshape(shape),
            q[:, :, start:end].reshape(N * H, -1, d),
            k[:, :, first:last].reshape(N * H, -1, d).transpose(1, 2),
        ).view(N, H, *shape[1:])
        lowest = torch.finfo(scores.dtype).min
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, first:last], lowest)
        if band is not None:
            ahead = torch.arange(first, last, device=q.device) - torch.arange(start, end, device=q.device)[:, None]
            scores = scores.masked_fill((ahead < -band[0]) | (ahead > band[1]), lowest)
        parts.append(torch.matmul(_softmax(scores), v[:, :, first:last]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _softmax(scores: Tensor) -> Tensor:
    """Over the last axis: of few 16-bit numbers on the CPU torch's own takes twice as long as one of float32."""
    if scores.device.type == "cpu" and scores.dtype is not torch.float32 and scores.numel() <= FEW_SCORES:
        return scores.float().softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


class _Attention(nn.Module):
    """Projections that both kinds of attention have, and how utterances share them."""

    def __init__(self, dim: int, num_heads: int, *, bias: bool, out_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, dim, bias=bias)
        self.v_proj = nn.Linear(dim, dim, bias=bias)
        self.o_proj = nn.Linear(dim, dim, bias=out_bias)
        self.qkv: nn.Module | None = None

    def join_projections(self) -> None:
        """Make one product of the three that have the same input, for inference."""
        layers = [self.q_proj, self.k_proj, self.v_proj]
        weight = torch.cat([layer.weight.detach() for layer in layers])
        joined = nn.Linear(weight.shape[1], len(weight), bias=layers[0].bias is not None, device="meta")
        joined.weight = nn.Parameter(weight, requires_grad=False)
        if layers[0].bias is not None:
            joined.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]), requires_grad=False)
        self.qkv = joined
        del self.q_proj, self.k_proj, self.v_proj

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, L, D]` to queries, keys and values `[B, H, L, d]`."""
        B, L, _ = x.shape
        if self.qkv is None:
            projected = [layer(x).view(B, L, self.num_heads, -1) for layer in (self.q_proj, self.k_proj, self.v_proj)]
            q, k, v = (part.transpose(1, 2) for part in projected)
        else:
            # One copy into the order of the products, which would otherwise each make their own.
            q, k, v = self.qkv(x).view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        return q, k, v


class RelativeAttention(_Attention):
    """Attention with sinusoidal relative positions (Transformer-XL).

    Arguments:
        dim: width D.
        num_heads: H.
        bias: whether the projections have biases.
        band: how many frames before and after it a frame looks at; None for all.
    """

    def __init__(self, dim: int, num_heads: int, *, bias: bool = True, band: tuple[int, int] | None = None) -> None:
        super().__init__(dim, num_heads, bias=bias, out_bias=bias)
        self.band = band
        self.relative_k_proj = nn.Linear(dim, dim, bias=False)
        self.bias_u = nn.Parameter(torch.zeros(num_heads, dim // num_heads))
        self.bias_v = nn.Parameter(torch.zeros(num_heads, dim // num_heads))
        self._kept: Tensor | None = None  # distances projected once for all utterances

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each utterance.

        Arguments:
            x: `[B, L, D]`.
            mask: which frames there are, bool `[B, L]`; None for all.
        """
        B, L, D = x.shape
        q, k, v = self._project(x)
        q = q * q.shape[-1] ** -0.5
        scale = q.shape[-1] ** -0.5
        u, w = (bias[:, None] * scale for bias in (self.bias_u, self.bias_v))
        table = self._table(L, x)
        if x.device.type != "cpu" or torch.is_grad_enabled():
            y = attend_at_distances(q + u, q + w, k, v, table, mask, self.band)
        else:
            y = torch.zeros_like(q)
            for b, length in enumerate([L] * B if mask is None else mask.sum(dim=1).tolist()):
                here = slice(b, b + 1), slice(None), slice(0, length)
                part = table[:, L - length : L + length - 1]
                if length:
                    y[here] = attend_at_distances(q[here] + u, q[here] + w, k[here], v[here], part, None, self.band)
        return self.o_proj(y.transpose(1, 2).reshape(B, L, D))  # type: ignore[no-any-return]

    def _table(self, frames: int, x: Tensor) -> Tensor:
        """What the distances of `frames` frames are to each head, `[H, 2 * frames - 1, d]`."""
        keep = not self.training and not torch.is_grad_enabled() and frames <= KEPT_FRAMES
        kept = self._kept
        if keep and kept is not None and kept.shape[1] >= 2 * frames - 1 and kept.device == x.device:
            spare = (kept.shape[1] + 1) // 2 - frames
            return kept[:, spare : kept.shape[1] - spare]
        sinusoids = relative_sinusoids(frames, x.shape[-1]).to(x)
        table = self.relative_k_proj(sinusoids).view(len(sinusoids), self.num_heads, -1).transpose(0, 1)
        self._kept = table.contiguous() if keep else None
        return table  # type: ignore[no-any-return]


class BlockAttention(_Attention):
    """Attention within blocks of frames, with a learnt vector for each distance (Shaw).

    Arguments:
        dim: width D.
        num_heads: H.
        context: frames of a block.
        max_distance: the furthest distance that has a vector, at least `context`.
    """

    def __init__(self, dim: int, num_heads: int, *, context: int, max_distance: int) -> None:
        super().__init__(dim, num_heads, bias=False, out_bias=True)
        self.context = context
        self.rel_pos_emb = nn.Embedding(2 * max_distance + 1, dim // num_heads)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each utterance's blocks.

        Arguments:
            x: `[B, L, D]`.
            mask: which frames there are, bool `[B, L]`; None for all.
        """
        B, L, D = x.shape
        q, k, v = self._project(x)
        q = q * q.shape[-1] ** -0.5
        context, middle = self.context, self.rel_pos_emb.num_embeddings // 2
        # The vectors are numbered by how far the key is before the query.
        table = self.rel_pos_emb.weight[middle - context + 1 : middle + context].flip(0)[None].to(q.dtype)
        if x.device.type != "cpu" or torch.is_grad_enabled():
            padding = -L % context
            if padding and mask is None:
                mask = torch.ones(B, L, dtype=torch.bool, device=x.device)
            padded = (F.pad(part, (0, 0, 0, padding)) for part in (q, k, v))
            q, k, v = (
                part.unflatten(2, (-1, context)).transpose(1, 2).flatten(0, 1) for part in padded
            )  # [B * blocks, H, context, d]
            keys = None if mask is None else F.pad(mask, (0, padding)).view(-1, context)
            y = attend_at_distances(q, q, k, v, table, keys)
            y = y.unflatten(0, (B, -1)).transpose(1, 2).flatten(2, 3)[:, :, :L]
        else:
            y = torch.zeros_like(q)
            for b, length in enumerate([L] * B if mask is None else mask.sum(dim=1).tolist()):
                whole = length - length % context
                if whole:
                    blocks = (
                        part[b, :, :whole].unflatten(1, (-1, context)).transpose(0, 1).contiguous()
                        for part in (q, k, v)
                    )
                    q_blocks, k_blocks, v_blocks = blocks  # [blocks, H, context, d]
                    attended = attend_at_distances(q_blocks, q_blocks, k_blocks, v_blocks, table)
                    y[b, :, :whole] = attended.transpose(0, 1).flatten(1, 2)
                if length > whole:
                    rest = slice(b, b + 1), slice(None), slice(whole, length)
                    part = table[:, context - (length - whole) : context + (length - whole) - 1]
                    y[rest] = attend_at_distances(q[rest], q[rest], k[rest], v[rest], part)
        return self.o_proj(y.transpose(1, 2).reshape(B, L, D))  # type: ignore[no-any-return]
