"""Experts over laid-out matrices against a float64 loop over tokens and their experts."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fun_asr.kernels import Routing, chosen_experts, route
from fun_asr.kernels.products import DenseProduct, Rows
from fun_asr.weights.int4 import dequantize_int4, quantize_int4
from fun_asr.weights.int8 import quantize
from fun_asr.weights.weight_only import Layout, product_of


def per_row_loop(x_ND: Tensor, routing: Routing, w_in_EHD: Tensor, w_out_EDF: Tensor, activation: str) -> Tensor:
    y_ND = torch.zeros(x_ND.shape, dtype=torch.float64)
    for n, experts in enumerate(routing.experts_NK.tolist()):
        for weight, e in zip(routing.weights_NK[n].double(), experts, strict=True):
            h_H = w_in_EHD[e].double() @ x_ND[n].double()
            if activation == "swiglu":
                gate_F, up_F = h_H.chunk(2)
                h_H = functional.silu(gate_F) * up_F
            else:
                h_H = functional.gelu(h_H) if activation == "gelu" else functional.relu(h_H) ** 2
            y_ND[n] += weight * (w_out_EDF[e].double() @ h_H)
    return y_ND


def stands_for(w_EFD: Tensor, kind: str) -> Tensor:
    """The float32 matrices that a layout multiplies with."""
    if kind == "int8":
        return torch.stack([integers.float() * scale for integers, scale in (quantize("", w) for w in w_EFD)])
    if kind == "int4":
        return dequantize_int4(*quantize_int4(w_EFD), w_EFD.shape[-1])
    return w_EFD.bfloat16().float() if kind == "bfloat16" else w_EFD


# Relative error of the whole layer: bfloat16 and int4 round the inputs, the hidden values and the products.
TOLERANCES = {"float32": 1e-6, "bfloat16": 1e-2, "int8": 1e-3, "int4": 1e-2}


@pytest.mark.parametrize("kind", TOLERANCES)
@pytest.mark.parametrize("activation", ["swiglu", "gelu", "relu2"])
@pytest.mark.parametrize(
    ("N", "E", "K", "D", "F"),
    [(1, 128, 8, 256, 128), (3, 128, 8, 128, 64), (64, 16, 4, 128, 96), (0, 4, 2, 64, 32), (700, 3, 2, 100, 37)],
)
def test_layer(kind: str, activation: str, N: int, E: int, K: int, D: int, F: int) -> None:
    generator = torch.Generator().manual_seed(N)
    x_ND = torch.randn(N, D, generator=generator)
    H = 2 * F if activation == "swiglu" else F
    w_in_EHD = torch.randn(E, H, D, generator=generator) / D**0.5
    w_out_EDF = torch.randn(E, D, F, generator=generator) / F**0.5
    routing = route(torch.randn(N, E, generator=generator), K)
    layout = Layout.PACKED if "float" in kind else Layout(kind)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    first = [product_of(w.to(dtype), layout) for w in w_in_EHD]
    second = [product_of(w.to(dtype), layout) for w in w_out_EDF]
    y_ND = chosen_experts(x_ND, routing, first, second, activation=activation)
    expected = per_row_loop(x_ND, routing, stands_for(w_in_EHD, kind), stands_for(w_out_EDF, kind), activation)
    assert y_ND.dtype == torch.float32 and y_ND.shape == (N, D)
    assert (y_ND - expected).norm() <= TOLERANCES[kind] * expected.norm()


class Counting(DenseProduct):
    """A matrix that counts the bytes read of it."""

    read = 0

    def multiply(self, rows: Rows) -> Tensor:
        Counting.read += self.weight_FD.nbytes
        return super().multiply(rows)


@pytest.mark.parametrize("E", [8, 64])
@pytest.mark.parametrize("N", [1, 4, 64])
def test_bytes_read_follow_the_chosen_experts(E: int, N: int) -> None:
    torch.manual_seed(0)
    first = [Counting(torch.randn(32, 16)) for _ in range(E)]
    second = [Counting(torch.randn(16, 16)) for _ in range(E)]
    routing = route(torch.randn(N, E), 2)
    Counting.read = 0
    chosen_experts(torch.randn(N, 16), routing, first, second)
    assert Counting.read == len(routing.experts_NK.unique()) * 4 * (32 * 16 + 16 * 16)


def test_wrong_operands_are_refused() -> None:
    first, second = [DenseProduct(torch.randn(8, 4))] * 3, [DenseProduct(torch.randn(4, 4))] * 3
    routing = route(torch.randn(2, 3), 1)
    with pytest.raises(ValueError, match=r"expected x \[2, 4\]"):
        chosen_experts(torch.randn(2, 5), routing, first, second)
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        chosen_experts(torch.randn(2, 4), routing, first, second, activation="relu")
    with pytest.raises(ValueError, match="experts must lie between 0 and 1"):
        chosen_experts(
            torch.randn(2, 4),
            Routing(torch.ones(2, 1), torch.tensor([[0], [2]]), torch.ones(2, 3)),
            first[:2],
            second[:2],
        )
