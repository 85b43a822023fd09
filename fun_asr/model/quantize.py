"""Inference networks: a model directory loaded as float32, bfloat16 or int8.

In int8 the matrices keep the checkpoint's integers and each product quantises its input on the fly, so the weights are
read at a quarter of float32's size. That pays for the decoder's few rows a step; what works on all frames at once, the
encoder, CTC head and cross-attention's keys and values, is bfloat16 where the CPU multiplies it, in the layout that
`fun_asr.model.packed` gives it. Shapes: N rows, D input width, F output width, V vocabulary, E experts.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.errors import ConfigError
from fun_asr.kernels import Routing
from fun_asr.model.checkpoint import SCALE_SUFFIX, build_model, dequantize, load_config, load_stored, quantize
from fun_asr.model.config import ModelConfig
from fun_asr.model.decoder import TokenEmbedding
from fun_asr.model.fun_asr import FunASR
from fun_asr.model.moe import RoutedExperts
from fun_asr.model.packed import pack_linears
from fun_asr.model.precision import ComputeType, bfloat16_is_fast


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
    """

    def __init__(self, integers: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = integers.shape
        self.bias = integers.new_zeros(len(integers), dtype=torch.float32) if bias is None else bias.detach()
        self.steps = _input_steps()
        if self.steps is None:
            self.weight = integers.float() * scale
        else:
            self.packed = _pack(integers, scale)
            self.sums_F = integers.sum(dim=1, dtype=torch.int32) * scale.flatten()

    def forward(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., F]` float32."""
        x = x.float()
        if self.steps is None:
            return F.linear(x, self.weight, self.bias)
        low, high = x.amin(dim=-1, keepdim=True).clamp_max(0), x.amax(dim=-1, keepdim=True).clamp_min(0)
        step = ((high - low) / (2 * self.steps)).clamp_min(torch.finfo(torch.float32).tiny)
        # Whole, so that 0 stays exact: most activations lie near it, and their equal errors would add up.
        shift = self.steps + (low / step).round()
        products = _multiply(torch.addcdiv(-shift, x, step), self.packed, self.steps)
        return torch.addcmul(self.bias, products, step, out=products).addcmul_(shift * step, self.sums_F)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _pack(integers: Tensor, scale: Tensor) -> Any:
    zeros = torch.zeros(len(integers), dtype=torch.int64)
    with warnings.catch_warnings():
        # torch announces, once a process, that it will drop these operators: nothing the user could act upon.
        warnings.simplefilter("ignore")
        weight = torch._make_per_channel_quantized_tensor(integers, scale.flatten().double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(weight, None)


def _multiply(x: Tensor, packed: Any, steps: int) -> Tensor:
    """Products of rows in [-`steps`, `steps`], rounded to integers, and packed weights."""
    y: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x, 1.0, steps, packed)
    return y


@functools.cache
def _input_steps() -> int | None:
    """The largest integer that inputs are rounded to, 127 or 63; None when int8 products do not work here at all.

    Without VNNI, x86 adds pairs of 8-bit products in 16 bits, which saturates unless inputs have 7 bits. Trying it on
    the largest products there are tells more surely than a list of processors.
    """
    integers = torch.full((16, 64), 127, dtype=torch.int8)
    integers[1::2] = -127
    scale = torch.full((16, 1), 1 / 127)
    x = torch.ones(4, 64)
    x[:, ::8] = -1.0
    expected = F.linear(x, integers.float() * scale)
    try:
        packed = _pack(integers, scale)
        return next((n for n in (127, 63) if torch.allclose(_multiply(x * n, packed, n), expected * n)), None)
    except (RuntimeError, AttributeError):
        return None


class Int8Embedding(nn.Module):
    """`TokenEmbedding` over int8 rows: looked up exactly, multiplied as `Int8Linear` for the logits.

    Arguments:
        integers: int8 `[V, D]`.
        scale: float32 scale of each row, `[V, 1]`.
    """

    def __init__(self, integers: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.integers = integers
        self.scale = scale
        self.projection = Int8Linear(integers, scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[...]` int64 to `[..., D]` float32."""
        return F.embedding(tokens, self.integers).float() * F.embedding(tokens, self.scale)

    def logits(self, x: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]`."""
        return self.projection(x)  # type: ignore[no-any-return]


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
        self.gate_up = Int8Linear(channels.contiguous(), scale)
        self.down = down_EDF.transpose(0, 1).flatten(1).contiguous()

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """Each token's weighted sum over its experts, `[N, D]`."""
        gate, up = self.gate_up(x_ND).chunk(2, dim=-1)
        weights_NE = torch.zeros_like(routing.probs_NE).scatter_(1, routing.experts_NK, routing.weights_NK)
        hidden_NEF = (F.silu(gate) * up).unflatten(1, (self.num_experts, -1)) * weights_NE[..., None]
        return F.linear(hidden_NEF.flatten(1).to(self.down.dtype), self.down).float()


def load_network(directory: Path, device: torch.device, compute_type: ComputeType) -> FunASR:
    """Load a model directory for inference.

    Arguments:
        directory: what `save_model` wrote, in int8 or float32; float32 matrices are quantised when int8 is asked for.
        device: where the network runs; int8 needs the CPU.
        compute_type: arithmetic of the matrix products.

    Raises:
        CheckpointError: when a file is missing or damaged.
        ConfigError: for int8 on another device than the CPU.
    """
    if compute_type is ComputeType.INT8 and device.type != "cpu":
        raise ConfigError(f"compute type int8 runs on the CPU only; use bfloat16 or float32 on {device}")
    config = load_config(directory)
    stored = load_stored(directory)
    if compute_type is ComputeType.INT8:
        narrow = torch.bfloat16 if bfloat16_is_fast(device) else None
        model = _int8_network(config, stored, str(directory), narrow)
    else:
        dtype = torch.bfloat16 if compute_type is ComputeType.BFLOAT16 else torch.float32
        model = build_model(config, dequantize(stored, dtype), str(directory)).to(device)
    pack_linears(model)
    return model.eval()


def _int8_network(config: ModelConfig, stored: dict[str, Tensor], where: str, narrow: torch.dtype | None) -> FunASR:
    """The network with int8 matrices, those that work on frames in `narrow` where that is given."""
    of_frames = {name: stored.pop(name) for name in list(stored) if narrow is not None and _works_on_frames(name)}
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for name in [name for name, tensor in stored.items() if _becomes_int8(name, tensor)]:
        weight, scale = stored.pop(name), stored.pop(name + SCALE_SUFFIX, None)
        matrices[name] = quantize(name, weight) if scale is None else (weight, scale)
    state = dequantize(stored) | dequantize(of_frames, narrow or torch.float32)
    # Placeholders without memory let `build_model` check the shapes of the matrices that are replaced below.
    for name, (integers, _) in matrices.items():
        state[name] = torch.empty(integers.shape, device="meta")
    model = build_model(config, state, where)
    for name, (integers, scale) in matrices.items():
        path = name.rpartition(".")[0]
        module = model.get_submodule(path)
        replacement: nn.Module
        if isinstance(module, RoutedExperts):
            replacement = Int8Experts(integers, scale, module.down_EDF.to(narrow or torch.float32))
        elif isinstance(module, TokenEmbedding):
            replacement = Int8Embedding(integers, scale)
        elif isinstance(module, nn.Linear):
            replacement = Int8Linear(integers, scale, module.bias)
        else:
            raise TypeError(f"{name}: no int8 form of {type(module).__name__}")
        model.set_submodule(path, replacement)
    return model


def _works_on_frames(name: str) -> bool:
    return name.startswith(("encoder.", "ctc.")) or ".cross_attention.kv." in name


def _becomes_int8(name: str, tensor: Tensor) -> bool:
    matrix = tensor.dim() == 2 and name.endswith(".weight") and ".router." not in name
    return matrix or name.endswith(".experts.gate_up_EHD")
