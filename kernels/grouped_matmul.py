"""Grouped matrix product: each row times the matrix of its own expert, in plain PyTorch.

Shape suffixes: N rows sorted by expert, E experts, D input width, F output width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BACKENDS = ("grouped_mm", "split", "select", "gather")

# torch.nn.functional.grouped_mm refuses any row stride that is not a multiple of this many bytes.
_STRIDE_BYTES = 16
_GROUPED_MM_DTYPES = (torch.float32, torch.bfloat16)

_HAS_GROUPED_MM = hasattr(functional, "grouped_mm")

_Run = tuple[int, int, int]
"""Expert, first row, end row."""


def grouped_matmul(
    x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor, *, scale_EF: Tensor | None = None, backend: str | None = None
) -> Tensor:
    """Multiply each row by the matrix of its expert; rows are sorted by expert.

    Expert e owns rows ``offsets_E[e - 1]`` up to ``offsets_E[e]`` (from 0 for the first); an expert may own none.
    Under ``torch.autocast`` both operands are cast to the autocast dtype, as for ``torch.matmul``. Differentiable in
    ``x_ND`` and ``w_EDF``. All backends compute the same product and differ only in speed and rounding.

    Args:
        x_ND: Rows ``[N, D]``, sorted by expert; any strides.
        w_EDF: Expert matrices ``[E, D, F]`` of the same dtype and device, or int8 with ``scale_EF``; any strides.
        offsets_E: End offset of each expert's rows ``[E]``, int32, non-decreasing, the last equal to N.
        scale_EF: Step of each expert's output channels ``[E, F]``, for int8 matrices: they stand for ``w * scale``. The
            gradient reaches the rows and the steps.
        backend: One of ``BACKENDS``; by default ``choose_backend`` decides.

    Returns:
        Products ``[N, F]`` in the operands' dtype, or in autocast's.

    Raises:
        ValueError: Shapes, dtypes or devices disagree, the offsets do not partition the rows, or the named backend
            cannot take these operands. On CUDA, wrong offsets fail a device-side assertion in the backends that
            leave them on the device ("grouped_mm", "gather").

    Source:
        The grouped GEMM of MegaBlocks (Gale et al., 2022) without dropped or padded rows.
    """
    if backend is None and scale_EF is None and _is_plain(x_ND, w_EDF, offsets_E):
        return _plain(x_ND, w_EDF, offsets_E)
    _check_operands(x_ND, w_EDF, offsets_E, scale_EF)
    dtype = autocast_dtype(x_ND)
    if backend is None:
        needs_grad = torch.is_grad_enabled() and (x_ND.requires_grad or w_EDF.requires_grad)
        N, D = x_ND.shape
        E, _, F = w_EDF.shape
        kind = dtype if scale_EF is None else w_EDF.dtype
        backend = choose_backend(N, E, D, F, dtype=kind, device=x_ND.device, needs_grad=needs_grad)
    elif backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    # The weights stay in their own dtype: a backend that reads a few experts casts only those.
    y_NF = _IMPLEMENTATIONS[backend](x_ND.to(dtype), w_EDF, offsets_E)
    if scale_EF is None:
        return y_NF
    # After the product: every integer of 8 bits is exact in bfloat16, its multiples are not.
    return y_NF * scale_EF.to(dtype).index_select(0, _expert_of_rows(offsets_E, len(x_ND)))


def choose_backend(
    N: int,
    E: int,
    D: int,
    F: int,
    *,
    dtype: torch.dtype,
    device: torch.device,
    needs_grad: bool,
    used: int | None = None,
) -> str:
    """Name the fastest exact backend for a shape, from the measurements in kernels/README.md.

    Args:
        N: Rows.
        E: Experts.
        D: Input width.
        F: Output width.
        dtype: Dtype of the product, or int8 for int8 matrices.
        device: Device of the operands.
        needs_grad: Whether a backward pass will follow.
        used: Experts that own rows, where that is known; else as many as can.

    Returns:
        One of ``BACKENDS``; "split" wherever the faster ones do not apply.
    """
    # Not measured here: gather never waits for the device, and copies fewer matrices than there are experts.
    if device.type == "cuda" and N < E and not needs_grad:
        return "gather"
    # Casts one expert's integers at a time, which then are in cache. They have no gradient that it could waste.
    if dtype == torch.int8:
        return "select" if device.type == "cpu" else "split"
    if device.type == "cpu" and not needs_grad and _few(min(N, E) if used is None else used, E):
        return "select"
    return "grouped_mm" if grouped_mm_supports(N, D, F, dtype=dtype, device=device) else "split"


def _few(used: int, E: int) -> bool:
    """Whether so few of the experts own rows that multiplying with each from here costs less than grouped_mm.

    Both multiply expert by expert. grouped_mm spends about a microsecond on every expert, used or not, and saves two
    on each one used: calls, not arithmetic, so it holds for all sizes and processors.
    """
    return 3 * used <= E + 4


def _is_plain(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> bool:
    """Whether these are valid operands on the CPU, and neither gradient, autocast nor compiling is in play.

    A small product takes 8 microseconds; the checks with an explanation for each mistake would take as long.
    """
    if torch.is_grad_enabled() or not (x_ND.is_cpu and w_EDF.is_cpu and offsets_E.is_cpu):
        return False
    dtype = x_ND.dtype
    if w_EDF.dtype != dtype or offsets_E.dtype != torch.int32 or dtype == torch.int8:
        return False
    x_shape, w_shape, offsets_shape = x_ND.shape, w_EDF.shape, offsets_E.shape
    if len(x_shape) != 2 or len(w_shape) != 3 or len(offsets_shape) != 1:
        return False
    if x_shape[1] != w_shape[1] or offsets_shape[0] != w_shape[0] or not w_shape[0]:
        return False
    return not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def _plain(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    N, D = x_ND.shape
    E, _, F = w_EDF.shape
    runs = _host_bounds(offsets_E, N)
    size = x_ND.dtype.itemsize
    if (
        not _few(len(runs), E)
        and _HAS_GROUPED_MM
        and x_ND.dtype in _GROUPED_MM_DTYPES
        and D
        and F
        and not (D * size % _STRIDE_BYTES or F * size % _STRIDE_BYTES)
        # Several experts have rows, and no aligned width is one: what is contiguous has the strides of its shape.
        and x_ND.is_contiguous()
        and (w_EDF.is_contiguous() or w_EDF.mT.is_contiguous())
    ):
        return functional.grouped_mm(x_ND, w_EDF, offs=offsets_E)
    return _multiply_runs(x_ND, w_EDF, runs)


def grouped_mm_supports(N: int, D: int, F: int, *, dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether ``torch.nn.functional.grouped_mm`` takes this shape, forward and backward.

    It needs torch 2.9 or later on CPU and compute capability 8.0 on CUDA, float32 (CPU only) or bfloat16, at least one
    row, and widths whose rows span multiples of 16 bytes.
    """
    if not _HAS_GROUPED_MM or dtype not in _GROUPED_MM_DTYPES or N == 0:
        return False
    # torch.compile's shape rule for grouped_mm refuses float32, though the CPU kernel takes it (torch 2.14).
    if dtype == torch.float32 and torch.compiler.is_compiling():
        return False
    if any(width == 0 or width * dtype.itemsize % _STRIDE_BYTES for width in (D, F)):
        return False
    if device.type == "cuda":
        return dtype == torch.bfloat16 and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu"


def require(condition: Tensor, message: str) -> None:
    """Raise ValueError unless a boolean scalar tensor is true, without waiting for a CUDA device.

    Reading a value back from a CUDA device would stop the host until every queued kernel has run, once per call and
    so several times per layer; there, and while a graph is traced, the check is left to a device-side assertion.
    """
    if condition.device.type == "cpu" and not torch.compiler.is_compiling():
        if not condition:
            raise ValueError(message)
    else:
        torch._assert_async(condition, message)


def _check_operands(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor, scale_EF: Tensor | None) -> None:
    shapes = f"x {list(x_ND.shape)}, w {list(w_EDF.shape)}, offsets {list(offsets_E.shape)}"
    if x_ND.ndim != 2 or w_EDF.ndim != 3 or offsets_E.ndim != 1:
        raise ValueError(f"expected x [N, D], w [E, D, F] and offsets [E], got {shapes}")
    if x_ND.shape[1] != w_EDF.shape[1] or offsets_E.shape[0] != w_EDF.shape[0] or w_EDF.shape[0] == 0:
        raise ValueError(f"x [N, D], w [E, D, F] and offsets [E] must agree, with E at least 1, got {shapes}")
    if offsets_E.dtype != torch.int32:
        raise ValueError(f"offsets must be int32, got {offsets_E.dtype}")
    if not x_ND.device == w_EDF.device == offsets_E.device:
        devices = f"x {x_ND.device}, w {w_EDF.device}, offsets {offsets_E.device}"
        raise ValueError(f"operands must share one device, got {devices}")
    if (w_EDF.dtype == torch.int8) != (scale_EF is not None):
        raise ValueError("int8 matrices need scale_EF, and others take none")
    if scale_EF is not None:
        if scale_EF.shape != w_EDF.shape[::2] or not scale_EF.is_floating_point():
            expected = list(w_EDF.shape[::2])
            raise ValueError(f"expected a floating-point scale {expected}, got {scale_EF.dtype} {list(scale_EF.shape)}")
        if not x_ND.is_floating_point():
            raise ValueError(f"x must be floating-point, got {x_ND.dtype}")
    elif x_ND.dtype != w_EDF.dtype and not torch.is_autocast_enabled(x_ND.device.type):
        raise ValueError(f"x and w must share one dtype outside autocast, got {x_ND.dtype} and {w_EDF.dtype}")


def autocast_dtype(x_ND: Tensor) -> torch.dtype:
    device_type = x_ND.device.type
    # Autocast leaves float64 alone in torch.matmul too.
    if torch.is_autocast_enabled(device_type) and x_ND.dtype != torch.float64:
        return torch.get_autocast_dtype(device_type)
    return x_ND.dtype


def _require_partition(offsets_E: Tensor, N: int) -> None:
    if offsets_E.device.type == "cpu" and not torch.compiler.is_compiling():
        _host_bounds(offsets_E, N)  # A list is several times faster to compare than a tensor of this size.
        return
    starts_E = torch.cat((offsets_E.new_zeros(1), offsets_E[:-1]))
    partition = (offsets_E >= starts_E).all() & (offsets_E[-1] == N)
    require(partition, f"offsets must be non-decreasing from 0 and end at the number of rows, {N}")


def _host_bounds(offsets_E: Tensor, N: int) -> list[_Run]:
    """Return (expert, start, end) of every expert that owns rows; on CUDA this waits for the device."""
    runs = []
    start = 0
    for e, end in enumerate(offsets_E.tolist()):
        if end != start:
            if end < start:
                break
            runs.append((e, start, end))
            start = end
    if start != N or (runs and end < start):
        ends = offsets_E.tolist()
        raise ValueError(f"offsets must be non-decreasing from 0 and end at the number of rows, {N}, got {ends}")
    return runs


def _expert_of_rows(offsets_E: Tensor, N: int) -> Tensor:
    """Return the expert of each sorted row ``[N]``."""
    rows_N = torch.arange(N, dtype=torch.int32, device=offsets_E.device)
    return torch.searchsorted(offsets_E, rows_N, right=True)


class _RowMajorGradient(torch.autograd.Function):
    """Identity whose gradient is row-major: grouped_mm's backward refuses an expanded one, as ``y.sum()`` makes."""

    @staticmethod
    def forward(ctx: Any, y_NF: Tensor) -> Tensor:
        return y_NF.view_as(y_NF)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _row_major(gradients[0])


def _row_major(x: Tensor) -> Tensor:
    # Not .contiguous(): that keeps odd strides on dimensions of size one, which grouped_mm refuses.
    return x if _is_row_major(x) else x.clone(memory_format=torch.contiguous_format)


def _is_row_major(x: Tensor) -> bool:
    *_, row_stride, column_stride = x.stride()
    return column_stride == 1 and row_stride >= x.shape[-1] and row_stride * x.element_size() % _STRIDE_BYTES == 0


def _grouped_mm(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    N, D = x_ND.shape
    F = w_EDF.shape[2]
    if not grouped_mm_supports(N, D, F, dtype=x_ND.dtype, device=x_ND.device):
        raise ValueError(f"grouped_mm does not take N={N}, D={D}, F={F}, {x_ND.dtype} on {x_ND.device}")
    # grouped_mm itself checks nothing: offsets past the last row read memory out of bounds.
    _require_partition(offsets_E, N)
    w_EDF = w_EDF.to(x_ND.dtype)
    # Matrices stored transposed, as nn.Linear stores its own, need no copy.
    if not _is_row_major(w_EDF.transpose(1, 2)):
        w_EDF = _row_major(w_EDF)
    y_NF = functional.grouped_mm(_row_major(x_ND), w_EDF, offs=offsets_E)
    rows: Tensor = _RowMajorGradient.apply(y_NF)
    return rows


def _split(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    bounds = _host_bounds(offsets_E, x_ND.shape[0])
    # unbind, not w_EDF[e]: the backward of each index fills a gradient the size of all experts.
    w_DF_of = w_EDF.to(x_ND.dtype).unbind(0)
    if not bounds:
        return x_ND @ w_DF_of[0]
    x_of = x_ND.split([end - start for _, start, end in bounds])
    return torch.cat([x_nD @ w_DF_of[e] for x_nD, (e, _, _) in zip(x_of, bounds, strict=True)])


def _select(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    return _multiply_runs(x_ND, w_EDF, _host_bounds(offsets_E, x_ND.shape[0]))


def _multiply_runs(x_ND: Tensor, w_EDF: Tensor, runs: list[_Run]) -> Tensor:
    """Multiply each run of rows with its expert's matrix, which alone is read. The matrices may have another dtype."""
    if not runs:
        return x_ND @ w_EDF[0].to(x_ND.dtype)
    x_of = x_ND.split([end - start for _, start, end in runs]) if len(runs) > 1 else (x_ND,)
    # One view of each matrix costs what three take when made at once.
    w_DF_of = w_EDF.unbind(0) if 3 * len(runs) > len(w_EDF) else w_EDF
    if w_EDF.dtype == x_ND.dtype:
        products = [x_nD.mm(w_DF_of[e]) for x_nD, (e, _, _) in zip(x_of, runs, strict=True)]
    else:
        products = [x_nD.mm(w_DF_of[e].to(x_ND.dtype)) for x_nD, (e, _, _) in zip(x_of, runs, strict=True)]
    return products[0] if len(products) == 1 else torch.cat(products)


def _gather(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    N = x_ND.shape[0]
    _require_partition(offsets_E, N)
    w_NDF = w_EDF.index_select(0, _expert_of_rows(offsets_E, N)).to(x_ND.dtype)
    return torch.bmm(x_ND.unsqueeze(1), w_NDF).squeeze(1)


_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "grouped_mm": _grouped_mm,
    "split": _split,
    "select": _select,
    "gather": _gather,
}
