"""Published matrices on their way into the integers that are stored or multiplied: a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fun_asr.kernels.products import Product
from fun_asr.weights.int4 import quantize_int4
from fun_asr.weights.int8 import quantize
from fun_asr.weights.sources import WeightSource
from fun_asr.weights.weight_only import Layout, product_of, stored_product

__all__ = ["Matrix", "expert_products", "joined", "read_matrix", "rounded"]

VALUES_AT_ONCE = 2**18  # of a matrix that becomes integers: what int4 makes of them on the way takes 60 bytes of each

Matrix = tuple[Tensor, Tensor]
"""Integers and scales: int8 `[..., F, D]` with `[..., F, 1]`, or nibbles as `quantize_int4` packs them."""


def rounded(weight: Tensor, layout: Layout) -> Matrix:
    """Integers and scales of each row of `[..., F, D]`.

    Arguments:
        weight: of any floating type.
        layout: INT8 or INT4.
    """
    rows = weight.reshape(-1, weight.shape[-1])
    # As float32, and as what the rounding makes of it, a large matrix takes many times its size.
    parts = rows.split(max(1, VALUES_AT_ONCE // rows.shape[-1]))
    pairs = (quantize_int4(few) if layout is Layout.INT4 else quantize("", few.float()) for few in parts)
    integers, scales = _in_one(pairs, len(rows))
    return integers.view(*weight.shape[:-1], -1), scales.view(*weight.shape[:-1], -1)


def joined(pairs: Sequence[Matrix]) -> Matrix:
    """Rows of the first, rows of the second, ..."""
    return pairs[0] if len(pairs) == 1 else _in_one(pairs, sum(len(pair[0]) for pair in pairs))


def _in_one(pairs: Iterable[Matrix], rows: int) -> Matrix:
    """Pairs that follow one another, `rows` of them in all; each is let go as soon as it is copied."""
    whole: Matrix | None = None
    start = 0
    for pair in pairs:
        if whole is None:
            integers, scales = pair
            whole = integers.new_empty(rows, *integers.shape[1:]), scales.new_empty(rows, *scales.shape[1:])
        for into, part in zip(whole, pair, strict=True):
            into[start : start + len(part)] = part
        start += len(pair[0])
    assert whole is not None
    return whole


def read_matrix(source: WeightSource, name: str, layout: Layout) -> Matrix:
    """Rows `[F, D]` of a stored matrix; integers of the layout stay as they are stored.

    Inputs in several dimensions, such as those of a convolution over one frame, become one.
    """
    stored = source.read_int4(name) if layout is Layout.INT4 else source.read_integers(name)
    integers, scales = rounded(source.read(name).flatten(1), layout) if stored is None else stored
    return integers.flatten(1), scales.flatten(1)


def expert_products(source: WeightSource, names: Sequence[str], count: int, layout: Layout) -> Iterator[Product]:
    """Each expert's matrix, laid out as soon as it is read: the next one is read after it was let go.

    Arguments:
        source: the stored tensors.
        names: one, of a tensor of all experts `[E, F, D]`, or as many of each expert, whose rows follow one another.
        count: E.
        layout: of the matrices; PACKED in bfloat16.
    """
    if len(names) == 1 < count:
        yield from _of_one_tensor(source, names[0], layout)
        return
    each = len(names) // count
    for expert in range(count):
        parts = names[expert * each : (expert + 1) * each]
        if layout is Layout.PACKED:
            yield product_of(torch.cat([source.read(name) for name in parts]).bfloat16(), layout)
        else:
            width = source.shapes[parts[0]][-1]
            pairs = [read_matrix(source, name, layout) for name in parts]
            yield stored_product(*joined(pairs), width)


def _of_one_tensor(source: WeightSource, name: str, layout: Layout) -> Iterator[Product]:
    width = source.shapes[name][-1]
    stored = None
    if layout is not Layout.PACKED:
        stored = source.read_int4(name) if layout is Layout.INT4 else source.read_integers(name)
    if stored is not None:
        for matrix in zip(*stored, strict=True):
            yield stored_product(*matrix, width)
        return
    for weight in source.read(name):
        if layout is Layout.PACKED:
            yield product_of(weight.bfloat16(), layout)
        else:
            yield stored_product(*rounded(weight, layout), width)
