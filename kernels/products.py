"""Weight matrices laid out once for the processor, to be multiplied with a few rows or many. Inference only.

A product's rows are prepared once and may then meet several matrices of its kind: the experts of a layer. Shape
suffixes: N rows, n rows of one matrix, D input width, F output width, G groups of inputs.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

GROUP = 128
"""Consecutive inputs of an int4 matrix that share a scale."""

_INT4_OUTPUTS = 16
"""torch's int4 layout wants a multiple of so many outputs."""

# Outputs that torch's layout keeps together are at most so many; values that are packed at once.
_INT4_LARGEST_BLOCK = 64
_INT4_PACKED_AT_ONCE = 2**20

# Rows from which spreading an int4 matrix out as bfloat16 or float32 costs less than torch's int4 product, which
# unpacks it anew for every few rows: see README.md.
_SPREAD_MIN_ROWS = 64

Rows = tuple[Tensor, ...]
"""Rows as a product wants them: the first dimension of each tensor counts them."""


class Product(Protocol):
    """One matrix ``[F, D]``, stored as ``nn.Linear`` stores its own."""

    in_features: int
    out_features: int

    def prepare(self, x_ND: Tensor) -> Rows:
        """Bring rows into the form that ``multiply`` takes, the same for all matrices of this kind and width."""

    def multiply(self, rows: Rows) -> Tensor:
        """Return the products ``[n, F]`` of prepared rows."""


class DenseProduct:
    """The matrix as it is: any floating dtype, any device.

    Args:
        weight_FD: Matrix ``[F, D]``.
    """

    def __init__(self, weight_FD: Tensor) -> None:
        self.out_features, self.in_features = weight_FD.shape
        self.weight_FD = weight_FD

    def prepare(self, x_ND: Tensor) -> Rows:
        return (x_ND.to(self.weight_FD.dtype),)

    def multiply(self, rows: Rows) -> Tensor:
        return functional.linear(rows[0], self.weight_FD)


class PackedProduct:
    """A float32 or bfloat16 matrix laid out as oneDNN multiplies it; check ``can_pack`` first.

    ``torch.matmul`` lays a matrix out anew at each call, which for a few rows costs more than the product.

    Args:
        weight_FD: Matrix ``[F, D]`` on the CPU; not needed afterwards.
    """

    def __init__(self, weight_FD: Tensor) -> None:
        self.out_features, self.in_features = weight_FD.shape
        self.dtype = weight_FD.dtype
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_FD.detach().contiguous())

    def prepare(self, x_ND: Tensor) -> Rows:
        return (x_ND.to(self.dtype),)

    def multiply(self, rows: Rows) -> Tensor:
        y_nF: Tensor = torch.ops.mkldnn._linear_pointwise(rows[0], self._packed, None, "none", [], "none")
        return y_nF


class Int8Product:
    """int8 weights with a scale for each output, times rows as two digits of 8 bits: integer products throughout.

    A row is divided by its step and rounded; what the rounding left becomes a second row in steps 2 * 127 times as
    fine. So inputs keep about 16 bits, the error is that of the weights alone, and no row depends on its neighbours. A
    second row is nearly free where reading the matrix is what costs, and 8-bit products are twice as fast as
    bfloat16's where it does not. Check ``int8_steps`` first.

    Args:
        integers_FD: int8 ``[F, D]`` on the CPU; not needed afterwards.
        scale_F1: float32 ``[F, 1]``.
    """

    def __init__(self, integers_FD: Tensor, scale_F1: Tensor) -> None:
        self.out_features, self.in_features = integers_FD.shape
        engine = int8_engine(few_rows=True)
        if engine is None:
            raise RuntimeError("no int8 products here: use DenseProduct")
        self.engine = engine
        self._packed = engine.pack(integers_FD, scale_F1)

    def prepare(self, x_ND: Tensor) -> Rows:
        x_ND = x_ND.float()
        tiny = torch.finfo(torch.float32).tiny
        step_N1 = (x_ND.abs().amax(dim=-1, keepdim=True) / self.engine.steps).clamp_min(tiny)
        x_ND = x_ND / step_N1
        high_ND = x_ND.round()
        fine = 2 * self.engine.steps
        digits_N2D = torch.stack((high_ND, (x_ND - high_ND).mul_(fine)), dim=1)
        return self.engine.digits(digits_N2D), torch.stack((step_N1, step_N1 / fine), dim=1)

    def multiply(self, rows: Rows) -> Tensor:
        digits_n2D, steps_n21 = rows
        y_2nF = self.engine.multiply(digits_n2D.flatten(0, 1), self._packed)
        return y_2nF.view(len(digits_n2D), 2, self.out_features).mul_(steps_n21).sum(dim=1)


class Int4Product:
    """int4 weights with a scale for each output and group of inputs, times rows in bfloat16; check ``can_int4`` first.

    Args:
        nibbles_FD: uint8 ``[F, D / 2]`` on the CPU, as ``weights.int4`` packs them: input 2j in the low four bits of
            byte j, input 2j + 1 in the high ones, each 8 more than its value. D is a multiple of ``GROUP``.
        scale_FG: ``[F, D / GROUP]``, values of bfloat16.
        in_features: Inputs of the rows; those up to D are zeros that the packing added.
    """

    def __init__(self, nibbles_FD: Tensor, scale_FG: Tensor, in_features: int | None = None) -> None:
        self.out_features, half = nibbles_FD.shape
        self.in_features = in_features or 2 * half
        self._padding = 2 * half - self.in_features
        added = -self.out_features % _INT4_OUTPUTS
        nibbles_FD = functional.pad(nibbles_FD, (0, 0, 0, added), value=0x88)
        # torch wants 32 bits of each: a few outputs at a time, or a matrix takes eight times its size.
        outputs = max(1, _INT4_PACKED_AT_ONCE // (_INT4_LARGEST_BLOCK * 2 * half)) * _INT4_LARGEST_BLOCK
        self._packed = torch.empty_like(nibbles_FD, memory_format=torch.contiguous_format)
        for few, place in zip(nibbles_FD.split(outputs), self._packed.split(outputs), strict=True):
            integers = torch.stack((few & 15, few >> 4), dim=-1).flatten(1).int()
            place.copy_(torch.ops.aten._convert_weight_to_int4pack_for_cpu(integers, 1).view(place.shape))
        scale_GF = functional.pad(scale_FG.T.bfloat16(), (0, added))
        self._scale_and_zero_GF2 = torch.stack((scale_GF, torch.zeros_like(scale_GF)), dim=-1)

    def prepare(self, x_ND: Tensor) -> Rows:
        x_ND = x_ND.bfloat16()
        return (functional.pad(x_ND, (0, self._padding)) if self._padding else x_ND.contiguous(),)

    def multiply(self, rows: Rows) -> Tensor:
        (x_nD,) = rows
        F = len(self._packed)
        block = int4_block(F) if len(x_nD) >= _SPREAD_MIN_ROWS else None
        if block:
            weight_DF = self._spread(block, _product_dtype())
            y_nF = (x_nD.to(weight_DF.dtype) @ weight_DF).to(x_nD.dtype)
        else:
            y_nF = torch.ops.aten._weight_int4pack_mm_for_cpu(x_nD, self._packed, GROUP, self._scale_and_zero_GF2)
        return y_nF if self.out_features == F else y_nF[:, : self.out_features]

    def _spread(self, block: int, dtype: torch.dtype) -> Tensor:
        """The matrix ``[D, F]``: blocks of outputs, for each input the nibbles of half a block beside the others'."""
        F, D = self._packed.shape[0], 2 * self._packed.shape[1]
        weight_DF = torch.empty(D, F, dtype=dtype)
        blocks = weight_DF.view(D, F // block, block).transpose(0, 1)
        packed = self._packed.view(F // block, D, block // 2)
        blocks[..., : block // 2] = packed & 15
        blocks[..., block // 2 :] = packed >> 4
        scale_G1F = self._scale_and_zero_GF2[..., 0].unsqueeze(1).to(dtype)
        weight_DF.view(-1, GROUP, F).sub_(8).mul_(scale_G1F)
        return weight_DF


class Int8Engine(Protocol):
    """A library's products of rows of 8-bit integers with packed int8 matrices, which are exact."""

    name: str
    steps: int
    """Rows hold integers in [-``steps``, ``steps``]."""

    def pack(self, integers_FD: Tensor, scale_F1: Tensor) -> Any:
        """Lay out int8 weights ``[F, D]`` with a scale for each output ``[F, 1]``."""

    def digits(self, x_ND: Tensor, step: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Return rows ``x / step - shift``, or x, at most ``steps`` and a half, in the form that is multiplied."""

    def multiply(self, digits_ND: Tensor, packed: Any) -> Tensor:
        """Return the products ``[N, F]``, float32."""


class _OneDNNInt8:
    """oneDNN, which uses what the processor has of AMX, AVX-512 VNNI and AVX-VNNI.

    It compiles a kernel for each number of rows and keeps a thousand of them, a quarter of a MiB each: rows come in
    steps of an eighth of their number.
    """

    name = "oneDNN"
    steps = 127

    def pack(self, integers_FD: Tensor, scale_F1: Tensor) -> Any:
        F = len(integers_FD)
        packed = torch.ops.onednn.qlinear_prepack(integers_FD, None)
        return packed, scale_F1.flatten().float().contiguous(), torch.zeros(F, dtype=torch.int64)

    def digits(self, x_ND: Tensor, step: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        # The conversion cuts off what follows the point.
        centre = self.steps + 0.5
        if step is None or shift is None:
            return (x_ND + centre).to(torch.uint8)
        return torch.addcdiv(centre - shift, x_ND, step).to(torch.uint8)

    def multiply(self, digits_ND: Tensor, packed: Any) -> Tensor:
        matrix, scale_F, zeros_F = packed
        shape = (*digits_ND.shape[:-1], len(scale_F))
        if not digits_ND.numel():
            return torch.zeros(shape)
        rows_ND = digits_ND.flatten(0, -2)
        N = len(rows_ND)
        added = _rows_in_steps(N) - N
        y_NF: Tensor = torch.ops.onednn.qlinear_pointwise(
            functional.pad(rows_ND, (0, 0, 0, added)) if added else rows_ND,
            1.0, self.steps, matrix, scale_F, zeros_F, None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        products: Tensor = y_NF[:N].view(shape)
        return products


class _FBGEMMInt8:
    """torch's quantised operators, which are to be removed one day."""

    name = "FBGEMM"

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def pack(self, integers_FD: Tensor, scale_F1: Tensor) -> Any:
        zeros_F = torch.zeros(len(integers_FD), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch announces the removal once a process: nothing the user could act upon.
            warnings.simplefilter("ignore")
            weight = torch._make_per_channel_quantized_tensor(integers_FD, scale_F1.flatten().double(), zeros_F, 0)
            return torch.ops.quantized.linear_prepack(weight, None)

    def digits(self, x_ND: Tensor, step: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        # Its product rounds them.
        return x_ND if step is None or shift is None else torch.addcdiv(-shift, x_ND, step)

    def multiply(self, digits_ND: Tensor, packed: Any) -> Tensor:
        y_NF: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            digits_ND, 1.0, self.steps, packed
        )
        return y_NF


INT8_ENGINES: tuple[Int8Engine, ...] = (_OneDNNInt8(), _FBGEMMInt8(127), _FBGEMMInt8(63))
"""In the order in which they are preferred for many rows."""


@functools.cache
def int8_engine(*, few_rows: bool = False) -> Int8Engine | None:
    """What multiplies 8-bit integers here; None when nothing does it exactly.

    oneDNN where its products are exact with 8 bits, which they are on a processor with VNNI and fast there; FBGEMM,
    whose calls cost 0.05 ms less, for few rows. Without VNNI, x86 adds pairs of 8-bit products in 16 bits, which
    saturates unless inputs have 7 bits, and oneDNN always gives them 8. Trying it on the largest products there are
    tells more surely than a list of processors.

    Args:
        few_rows: Whether products mostly have few rows, as a decoder's steps do, and not a vocabulary of outputs.
    """
    one_dnn, *others = INT8_ENGINES
    engines = (*others, one_dnn) if few_rows else INT8_ENGINES
    return next((engine for engine in engines if is_exact(engine)), None)


def is_exact(engine: Int8Engine) -> bool:
    """Whether an engine is there and multiplies the largest integers that it may be given without an error."""
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[1::2] = -127
    scale = torch.full((16, 1), 1 / 127)
    x = torch.full((4, 64), float(engine.steps))
    x[:, ::8] *= -1
    try:
        found = engine.multiply(engine.digits(x), engine.pack(integers, scale))
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(found, functional.linear(x, integers.float() * scale))


def _rows_in_steps(N: int) -> int:
    """The next number of rows for which there is a kernel."""
    step = 1 << max(0, N.bit_length() - 4)
    return -(-N // step) * step


def int8_steps() -> int | None:
    """The largest integer that inputs of few rows are rounded to, 127 or 63; None when there are no int8 products."""
    engine = int8_engine(few_rows=True)
    return None if engine is None else engine.steps


def has_plain_int8() -> bool:
    """Whether ``torch._int_mm`` is as fast as other products: without AVX-512 it is thirty times slower."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and plain_int8_steps() is not None


@functools.cache
def plain_int8_steps() -> int | None:
    """What ``int8_steps`` is for products with int8 matrices that are not laid out, which cost more than packed ones.

    ``torch._int_mm`` takes rows and matrix as integers; None where it is missing or wrong.
    """
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[1::2] = -127
    for steps in (127, 63):
        x = torch.full((4, 64), steps, dtype=torch.int8)
        x[:, ::8] = -steps
        try:
            if torch.equal(torch._int_mm(x, integers.T).long(), x.long() @ integers.long().T):
                return steps
        except (RuntimeError, AttributeError):
            return None
    return None


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether ``PackedProduct`` works for a dtype with this torch, whose operators are not public, and processor."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    weight = torch.linspace(-0.2, 0.2, 48 * 32).sin().view(48, 32).to(dtype)
    x = torch.linspace(-2, 2, 40 * 32).view(40, 32).to(dtype)
    try:
        with torch.no_grad():
            product = PackedProduct(weight)
            return all(
                torch.allclose(product.multiply((rows,)).float(), rows.float() @ weight.float().T, rtol=0.02, atol=0.02)
                for rows in (x[:1], x)
            )
    except (RuntimeError, AttributeError):
        return False


@functools.cache
def can_int4() -> bool:
    """Whether this torch has int4 products, whose operators are not public, and they compute what they should."""
    nibbles = (torch.arange(32 * GROUP).view(32, GROUP) * 7 % 256).to(torch.uint8)
    scale = (1 + torch.arange(64).view(32, 2) % 5) / 64
    x = torch.linspace(-1, 1, 3 * 2 * GROUP).cos().view(3, 2 * GROUP).bfloat16()
    integers = torch.stack((nibbles & 15, nibbles >> 4), dim=-1).flatten(1).float() - 8
    expected = x.float() @ (integers * scale.repeat_interleave(GROUP, dim=1)).T
    try:
        y = Int4Product(nibbles, scale).multiply((x,))
    except (RuntimeError, AttributeError):
        return False
    return torch.allclose(y.float(), expected, rtol=0.02, atol=0.1)


@functools.cache
def int4_block(out_features: int) -> int | None:
    """How many outputs torch's int4 layout keeps together on this processor; None when it is none of those known.

    ``Int4Product`` spreads a matrix out itself for many rows. The layout depends on the processor's vectors and is
    not documented, so a matrix of distinct patterns is laid out and compared.

    Args:
        out_features: F; a matrix whose F is no multiple of the block has another layout at its end.
    """
    F = 128
    integers = (torch.arange(F).unsqueeze(1) * 5 + torch.arange(GROUP) * 3).remainder(16)
    nibbles = (integers[:, ::2] | integers[:, 1::2] << 4).to(torch.uint8)
    product = Int4Product(nibbles, torch.ones(F, 1))
    expected = (integers - 8).T.float()
    for block in (64, 32):
        if out_features % block == 0 and torch.equal(product._spread(block, torch.float32), expected):
            return block
    return None


@functools.cache
def _product_dtype() -> torch.dtype:
    """The dtype in which a matrix that was spread out is multiplied."""
    return torch.bfloat16 if can_pack(torch.bfloat16) else torch.float32
