"""Multi-head attention: over all frames, over the tokens so far, and to an encoder's output.

Shapes: B utterances, W hypotheses per utterance (1 in greedy search), R = B * W rows, S tokens, L encoder frames,
D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.cache import DecoderCache

QUERIES_AT_ONCE = 512  # on the CPU: the scores of 30 s are 36 MB, twice
FEW_QUERIES = 16


def length_mask(lengths_B: Tensor, frames: int) -> Tensor | None:
    """True for the valid frames, bool `[B, frames]`; None when every utterance fills them, so nothing needs masking."""
    if int(lengths_B.min()) >= frames:
        return None
    return torch.arange(frames, device=lengths_B.device) < lengths_B[:, None]


def valid_lengths(mask: Tensor | None) -> list[int] | None:
    """The valid frames of each utterance by what attention knows of them, `[B, L]`; None when that is nothing."""
    if mask is None:
        return None
    valid = mask > -torch.inf if mask.is_floating_point() else mask
    return valid.sum(dim=1).tolist()


class SelfAttention(nn.Module):
    """Multi-head self-attention over the valid frames."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend `[B, L, D]` to itself.

        Arguments:
            x: `[B, L, D]`.
            mask: `[B, L]`, True for the valid frames, or what is added to the scores of each; None when all are valid.
        """
        return self.attended(self.qkv(x), mask)

    def attended(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Queries, keys and values `[B, L, 3 * D]` to the result `[B, L, D]`."""
        if qkv.dtype is torch.bfloat16 and qkv.device.type == "cpu" and not torch.is_grad_enabled():
            return self.out(self._attend_each(qkv, mask))  # type: ignore[no-any-return]
        B, L, _ = qkv.shape
        q, k, v = qkv.view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, L, D / H] each
        keys = None if mask is None else mask[:, None, None, :]
        if keys is not None and keys.is_floating_point():
            keys = keys.to(q.dtype)
        if qkv.device.type == "cpu" and torch.is_grad_enabled():  # the fused kernel's gradient takes longer than this
            y = _two_products(q, k, v, keys)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(y.transpose(1, 2).reshape(B, L, -1))  # type: ignore[no-any-return]

    def _attend_each(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """Two plain products an utterance: two thirds of the time of torch's fused CPU kernel, and none for padding.

        Arguments:
            qkv: `[B, L, 3 * D]` bfloat16.
            mask: as for `forward`.

        Returns:
            `[B, L, D]`, zero for what is not valid.
        """
        B, L, _ = qkv.shape
        H = self.num_heads
        y = qkv.new_zeros(B, L, H, qkv.shape[-1] // (3 * H))
        bias = mask if mask is not None and mask.is_floating_point() else None
        for b, length in enumerate(valid_lengths(mask) or [L] * B):
            q, k, v = qkv[b, :length].view(length, 3, H, -1).permute(1, 2, 0, 3).contiguous()  # [H, length, D / H] each
            for part, into in zip(q.split(QUERIES_AT_ONCE, dim=1), y[b, :length].split(QUERIES_AT_ONCE), strict=True):
                scores = torch.bmm(part * q.shape[-1] ** -0.5, k.transpose(1, 2))
                if bias is not None:
                    scores += bias[b, :length].to(scores.dtype)
                into.copy_(torch.bmm(scores.softmax(dim=-1), v).transpose(0, 1))
        return y.flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention of queries `[B, H, Q, D / H]` to keys and values `[B, H, L, D / H]`, in the dtype of the keys.

    Arguments:
        mask: broadcastable to `[B, H, Q, L]`: False or minus infinity where a query must not look; None for nowhere.
        causal: query i looks at keys 0 to i.
    """
    q = q.to(k.dtype)
    if mask is not None and mask.is_floating_point():
        mask = mask.to(k.dtype)
    # Of few queries torch's fused CPU kernel makes two to four times the work that two plain products are.
    if q.device.type != "cpu" or q.shape[2] > FEW_QUERIES or causal or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    return _two_products(q, k, v, mask)


def _two_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` without the fused kernel."""
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

    def keys_values(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, L, D]` to keys and values `[B, H, L, D / H]`."""
        B, L, _ = encoded.shape
        keys, values = self.kv(encoded).view(B, L, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        return keys, values

    def laid_out(self, encoded: Tensor, lengths: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """Keys and values as `keys_values`, contiguous, as steps that read all of them want them.

        Arguments:
            encoded: `[B, L, D]`.
            lengths: valid frames of each utterance, beyond which keys and values are zero; None for L.
        """
        if lengths is None:
            keys, values = self.keys_values(encoded)
            return keys.contiguous(), values.contiguous()
        # An utterance at a time: nothing is computed of padding, and what a product returns is still in the cache.
        parts = [self.keys_values(encoded[b : b + 1, :length]) for b, length in enumerate(lengths)]
        B, L, D = encoded.shape
        keys, values = parts[0][0].new_empty(2, B, self.num_heads, L, D // self.num_heads)
        for b, (length, part) in enumerate(zip(lengths, parts, strict=True)):
            for into, found in zip((keys[b], values[b]), part, strict=True):
                into[:, :length] = found[0]
                into[:, length:] = 0
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
