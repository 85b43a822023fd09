"""int8: one scale an output channel, stored and computed with.

The matrices keep the checkpoint's integers and each product quantises its input on the fly, so the weights are read at
a quarter of float32's size. Shapes: N rows, D input width, F output width, V vocabulary, E experts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.kernels import Routing
from fun_asr.kernels.products import Int8Product, has_plain_int8, int8_engine, plain_int8_steps

SCALE_SUFFIX = ".scale"
"""Behind a stored int8 matrix's name: the name of its scales."""

_KEPT_FLOAT = ("router.", "depthwise.", "positions")
_ROWS_AT_ONCE = 4096  # of a vocabulary, in a wider type


def quantize(name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 per output channel: the integers, and the float32 scales shaped to broadcast over them.

    Experts are stored `[E, out, in]`, all other weights `[out, ...]`.
    """
    inputs = tuple(range(2 if ".experts." in name else 1, weight.dim()))
    bound = weight.abs().amax(dim=inputs, keepdim=True)
    scale = (bound / 127).clamp(min=1e-12)
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def stored_as_int8(name: str, weight: Tensor) -> bool:
    """Whether an int8 model directory holds this parameter as integers and scales; it holds the others as float32."""
    return weight.dim() >= 2 and not any(part in name for part in _KEPT_FLOAT)


def dequantize(stored: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Stored tensors as parameters of type `dtype`."""
    return {
        name: (tensor.to(torch.float32) * stored[name + SCALE_SUFFIX]).to(dtype)
        if name + SCALE_SUFFIX in stored
        else tensor.to(dtype)
        for name, tensor in stored.items()
        if not name.endswith(SCALE_SUFFIX)
    }


class Int8Linear(nn.Module):
    """`nn.Linear` with int8 weights and inputs quantised on the fly, each row in its own range.

    A row is divided by its step, shifted so that its range is centred, rounded to integers, multiplied, and scaled
    back; the shift adds its multiple of the weights' row sums. So an outlier costs only its own row precision, and a
    row's result does not depend on the batch. The stored integers are packed as they are.

    Where this torch has no int8 products (its quantised operators are to be removed one day) or computes them wrongly
    on this processor, the weights are dequantised to float32: the same function without the rounding of the input.

    Arguments:
        integers: weights, int8 `[F, D]`.
        scale: float32 scale of each output channel, `[F, 1]`.
        bias: float32 `[F]`, or None.
        few_rows: whether inputs mostly have few rows, as a decoder's steps do.
    """

    def __init__(self, integers: Tensor, scale: Tensor, bias: Tensor | None = None, *, few_rows: bool = False) -> None:
        super().__init__()
        self.out_features, self.in_features = integers.shape
        self.bias = integers.new_zeros(len(integers), dtype=torch.float32) if bias is None else bias.detach()
        self.engine = int8_engine(few_rows=few_rows)
        if self.engine is None:
            self.weight = integers.float() * scale
        else:
            self.packed = self.engine.pack(integers, scale)
            # As a product of ones, which are integers too, it takes a tenth of the time of the integers' own sum.
            self.sums_F = self.engine.multiply(self.engine.digits(torch.ones(1, self.in_features)), self.packed)[0]

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., F]` float32."""
        x = x.float()
        if self.engine is None:
            return F.linear(x, self.weight, self.bias)
        step, shift = _step_and_shift(x, self.engine.steps)
        products = self.engine.multiply(self.engine.digits(x, step, shift), self.packed)
        return torch.addcmul(self.bias, products, step, out=products).addcmul_(shift * step, self.sums_F)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _step_and_shift(x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """What rows `[..., D]` are divided by, and what is then taken off so that they lie in [-steps, steps]."""
    low, high = x.amin(dim=-1, keepdim=True).clamp_max(0), x.amax(dim=-1, keepdim=True).clamp_min(0)
    step = ((high - low) / (2 * steps)).clamp_min(torch.finfo(torch.float32).tiny)
    # Whole, so that 0 stays exact: most activations lie near it, and their equal errors would add up.
    return step, steps + (low / step).round()


class Int8Embedding(nn.Module):
    """`TokenEmbedding` over int8 rows: looked up exactly, multiplied as `Int8Linear` for the logits.

    Arguments:
        integers: int8 `[V, D]`.
        scale: float32 scale of each row, `[V, 1]`.
    """

    def __init__(self, integers: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.integers, self.scale = integers, scale
        self._lay_out()

    def _lay_out(self) -> None:
        """Prepare the integers for `logits`."""
        self.projection = Int8Linear(self.integers, self.scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[...]` int64 to `[..., D]` float32."""
        return F.embedding(tokens, self.integers).float() * F.embedding(tokens, self.scale)

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]`."""
        return self.projection(x)  # type: ignore[no-any-return]


class CompactInt8Embedding(Int8Embedding):
    """`Int8Embedding` that looks up and multiplies the same integers.

    Half the memory, which for a language model's vocabulary is 150 MB and more; the product takes up to three times as
    long, since the matrix is not laid out for it.

    Arguments:
        integers: int8 `[V, D]`.
        scale: float32 scale of each row, `[V, 1]`.
    """

    def _lay_out(self) -> None:
        self.sums_V = torch.cat([part.sum(dim=1, dtype=torch.int32) for part in self.integers.split(_ROWS_AT_ONCE)])
        self.steps = plain_int8_steps()

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]` float32."""
        x = x.float()
        if self.steps is None:
            parts = zip(self.integers.split(_ROWS_AT_ONCE), self.scale.split(_ROWS_AT_ONCE), strict=True)
            return torch.cat([F.linear(x, integers.float() * scale) for integers, scale in parts], dim=-1)
        rows = x.reshape(-1, x.shape[-1])
        step, shift = _step_and_shift(rows, self.steps)
        digits = torch.addcdiv(-shift, rows, step).round_().to(torch.int8)
        products = torch._int_mm(digits, self.integers.T).float()
        logits = products.addcmul_(shift, self.sums_V.float()).mul_(step).mul_(self.scale.T)
        return logits.view(*x.shape[:-1], -1)


class FineInt8Embedding(Int8Embedding):
    """`Int8Embedding` whose logits come of inputs in two digits, where one has but 7 bits and `torch._int_mm` is slow.

    Arguments:
        integers: int8 `[V, D]`.
        scale: float32 scale of each row, `[V, 1]`.
    """

    def _lay_out(self) -> None:
        self.product = Int8Product(self.integers, self.scale)

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]` float32."""
        rows = x.reshape(-1, x.shape[-1])
        return self.product.multiply(self.product.prepare(rows)).view(*x.shape[:-1], -1)


def compact_embedding(integers: Tensor, scale: Tensor) -> Int8Embedding:
    """A vocabulary, int8 `[V, D]`, held once where this processor multiplies that as fast as other matrices."""
    if has_plain_int8():
        return CompactInt8Embedding(integers, scale)
    return (Int8Embedding if int8_engine() is None else FineInt8Embedding)(integers, scale)


class Int8Experts(nn.Module):
    """`RoutedExperts` computed as one wide SwiGLU layer over all experts, in which those not chosen weigh nothing.

    A decode step of a few rows reads nearly every expert anyway; one product with all of them costs less than sorting
    rows by expert. The input projections are int8; the output projections, whose scales differ between the experts
    that one product sums over, are dequantised.

    Arguments:
        gate_up_EHD: int8 `[E, 2 * F, D]`.
        gate_up_scale: float32 `[E, 2 * F, 1]`.
        down_EDF: `[E, D, F]`, in the dtype of its product.
    """

    def __init__(self, gate_up_EHD: Tensor, gate_up_scale: Tensor, down_EDF: Tensor) -> None:
        super().__init__()
        self.num_experts = len(gate_up_EHD)
        # Output channels in the order (gate or up, expert, F).
        channels = gate_up_EHD.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)
        scale = gate_up_scale.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 2)
        self.gate_up = Int8Linear(channels.contiguous(), scale, few_rows=True)
        self.down = down_EDF.transpose(0, 1).flatten(1).contiguous()

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`."""
        gate, up = self.gate_up(x_ND).chunk(2, dim=-1)
        weights_NE = torch.zeros_like(routing.probs_NE).scatter_(1, routing.experts_NK, routing.weights_NK)
        hidden_NEF = (F.silu(gate) * up).unflatten(1, (self.num_experts, -1)) * weights_NE[..., None]
        return F.linear(hidden_NEF.flatten(1).to(self.down.dtype), self.down).float()
