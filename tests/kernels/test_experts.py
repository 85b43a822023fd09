"""The fused expert layer against a float64 loop over rows, and against transformers' Qwen3-MoE."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from fun_asr.kernels import ACTIVATIONS, METHODS, Routing, choose_method, expert_mlp, route
from fun_asr.kernels import experts as module


def per_row_loop(x_ND: Tensor, routing: Routing, w_in_EDH: Tensor, w_out_EFD: Tensor, activation: str) -> Tensor:
    """The layer in float64, one token and expert at a time."""
    x_ND, w_in_EDH, w_out_EFD = x_ND.double(), w_in_EDH.double(), w_out_EFD.double()
    rows = []
    for n in range(len(x_ND)):
        y_D = x_ND.new_zeros(x_ND.shape[1])
        for weight, e in zip(routing.weights_NK[n].double(), routing.experts_NK[n].tolist(), strict=True):
            h_H = x_ND[n] @ w_in_EDH[e]
            if activation == "swiglu":
                gate_F, up_F = h_H.chunk(2)
                a_F = gate_F * torch.sigmoid(gate_F) * up_F
            elif activation == "gelu":
                a_F = 0.5 * h_H * (1 + torch.erf(h_H / 2**0.5))
            else:
                a_F = h_H.clamp_min(0) ** 2
            y_D = y_D + weight * (a_F @ w_out_EFD[e])
        rows.append(y_D)
    return torch.stack(rows) if rows else x_ND.sum() * 0 + x_ND


Operands = tuple[Tensor, Tensor, Tensor, Tensor]


def operands(N: int, E: int, D: int, F: int, activation: str, seed: int = 0) -> Operands:
    generator = torch.Generator().manual_seed(seed)
    H = 2 * F if activation == "swiglu" else F
    x_ND = torch.randn(N, D, generator=generator)
    logits_NE = torch.randn(N, E, generator=generator)
    w_in_EDH = torch.randn(E, D, H, generator=generator) / D**0.5
    w_out_EFD = torch.randn(E, F, D, generator=generator) / F**0.5
    return x_ND, logits_NE, w_in_EDH, w_out_EFD


def compare(
    values: Operands, K: int, activation: str, gradient_ND: Tensor, tolerance: float, view: Callable[[Tensor], Tensor]
) -> None:
    """Output, with and without gradients, and all gradients, down to the router's logits."""
    leaves = [value.detach().clone().requires_grad_() for value in values]
    x_ND, logits_NE, w_in_EDH, w_out_EFD = (view(leaf) for leaf in leaves)
    routing = route(logits_NE, K)
    y_ND = expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD, activation=activation)
    with torch.no_grad():
        without_grad = [
            expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD, activation=activation, method=method)
            for method in (None, *METHODS)
        ]
    expected_ND = per_row_loop(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    actual = torch.autograd.grad(y_ND, leaves, gradient_ND, retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(expected_ND, leaves, gradient_ND.double(), allow_unused=True)
    assert y_ND.dtype == x_ND.dtype
    for mine in (y_ND, *without_grad):
        assert_close(mine.double(), expected_ND.double(), rtol=tolerance, atol=tolerance)
    for leaf, mine_grad, reference_grad in zip(leaves, actual, expected, strict=True):
        zero = torch.zeros_like(leaf)
        assert_close(
            (zero if mine_grad is None else mine_grad).double(),
            (zero if reference_grad is None else reference_grad).double(),
            rtol=tolerance,
            atol=tolerance,
        )


@settings(deadline=None, max_examples=60)
@given(
    N=st.sampled_from([0, 1, 2, 3, 8, 40]),
    E=st.sampled_from([1, 2, 5, 128]),
    D=st.integers(1, 20),
    F=st.integers(1, 20),
    K=st.integers(1, 4),
    activation=st.sampled_from(ACTIVATIONS),
    strided=st.booleans(),
    expanded=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_shape_matches_the_loop(
    N: int, E: int, D: int, F: int, K: int, activation: str, strided: bool, expanded: bool, seed: int
) -> None:
    values = operands(N, E, D, F, activation, seed)
    gradient_ND = torch.ones(()).expand(N, D) if expanded else torch.randn(N, D)

    def view(x: Tensor) -> Tensor:
        return x.mT.contiguous().mT if strided else x

    compare(values, min(K, E), activation, gradient_ND, 1e-4, view)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_experts_of_many_blocks(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 7)
    values = operands(60, 3, 12, 10, activation)
    compare(values, 2, activation, torch.randn(60, 12), 1e-4, lambda x: x)


def test_dead_experts_get_no_gradient() -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = operands(9, 4, 6, 5, "swiglu")
    logits_NE[:, 2] = -50
    w_in_EDH.requires_grad_()
    expert_mlp(x_ND, route(logits_NE, 2), w_in_EDH, w_out_EFD).sum().backward()
    assert w_in_EDH.grad is not None
    assert w_in_EDH.grad[2].abs().max() == 0
    assert w_in_EDH.grad[[0, 1, 3]].abs().amax(dim=(1, 2)).min() > 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float64_passes_gradcheck(activation: str) -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = (v.double() for v in operands(5, 3, 4, 3, activation))
    routing = route(logits_NE, 2)
    weights_NK = routing.weights_NK.double().requires_grad_()

    def layer(x_ND: Tensor, weights_NK: Tensor, w_in_EDH: Tensor, w_out_EFD: Tensor) -> Tensor:
        chosen = Routing(weights_NK, routing.experts_NK, routing.probs_NE)
        return expert_mlp(x_ND, chosen, w_in_EDH, w_out_EFD, activation=activation)

    inputs = (x_ND.requires_grad_(), weights_NK, w_in_EDH.requires_grad_(), w_out_EFD.requires_grad_())
    assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.parametrize("N", [1, 2, 8, 300])
def test_equals_qwen3_moe(N: int) -> None:
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        hidden_size=64,
        moe_intermediate_size=48,
        num_experts=16,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        experts_implementation="eager",
    )
    block = Qwen3MoeSparseMoeBlock(config)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.1)
    x_ND = torch.randn(N, 64)
    with torch.no_grad():
        routing = route(functional.linear(x_ND, block.gate.weight), 4)
        ours = expert_mlp(x_ND, routing, block.experts.gate_up_proj.mT, block.experts.down_proj.mT)
        assert_close(ours, block(x_ND[None])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("N", [1, 2, 8, 50])
def test_bfloat16_is_near_float32(N: int) -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = operands(N, 4, 32, 24, "swiglu")
    routing = route(logits_NE, 2)
    expected = expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD)
    actual = expert_mlp(x_ND.bfloat16(), routing, w_in_EDH.bfloat16(), w_out_EFD.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert_close(actual.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_accelerators_path_equals_the_loop(activation: str) -> None:
    values = operands(20, 4, 12, 10, activation)
    leaves = [value.clone().requires_grad_() for value in values]
    x_ND, logits_NE, w_in_EDH, w_out_EFD = leaves
    routing = route(logits_NE, 2)
    y_ND = module._grouped(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    expected_ND = per_row_loop(x_ND, routing, w_in_EDH, w_out_EFD, activation)
    assert_close(y_ND.double(), expected_ND, rtol=1e-4, atol=1e-4)
    gradient_ND = torch.randn(20, 12)
    actual = torch.autograd.grad(y_ND, leaves, gradient_ND, retain_graph=True)
    expected = torch.autograd.grad(expected_ND, leaves, gradient_ND.double())
    for mine, reference in zip(actual, expected, strict=True):
        assert_close(mine.double(), reference.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("N", [2, 4, 33])
def test_overflow_in_an_expert_not_chosen_stays_there(N: int) -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = operands(N, 4, 8, 6, "swiglu")
    logits_NE[:, 3] = -50
    w_in_EDH[3] = torch.inf
    assert expert_mlp(x_ND, route(logits_NE, 2), w_in_EDH, w_out_EFD).isfinite().all()


def test_half_precision_gradients_are_summed_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = (v.bfloat16() for v in operands(200, 1, 16, 8, "swiglu"))
    gradients = []
    for rows in (1, 10_000):
        monkeypatch.setattr(module, "_BLOCK_ROWS", rows)
        w = w_in_EDH.clone().requires_grad_()
        expert_mlp(x_ND, route(logits_NE, 1), w, w_out_EFD).sum().backward()
        gradients.append(w.grad)
    assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_autocast_computes_in_bfloat16_and_gives_float32_gradients() -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = operands(20, 4, 16, 8, "swiglu")
    w_in_EDH.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y_ND = expert_mlp(x_ND.bfloat16(), route(logits_NE, 2), w_in_EDH, w_out_EFD)
    assert y_ND.dtype == torch.bfloat16
    y_ND.float().square().sum().backward()
    assert w_in_EDH.grad is not None and w_in_EDH.grad.dtype == torch.float32
    assert w_in_EDH.grad.abs().max() > 0


def test_operands_that_disagree_are_refused() -> None:
    x_ND, logits_NE, w_in_EDH, w_out_EFD = operands(4, 3, 6, 5, "swiglu")
    routing = route(logits_NE, 2)
    with pytest.raises(ValueError, match="activation 'relu'"):
        expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD, activation="relu")
    with pytest.raises(ValueError, match="must agree for gelu"):
        expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD, activation="gelu")
    with pytest.raises(ValueError, match="expected x"):
        expert_mlp(x_ND[0], routing, w_in_EDH, w_out_EFD)
    with pytest.raises(ValueError, match="3 tokens, but a routing of 4"):
        expert_mlp(x_ND[:3], routing, w_in_EDH, w_out_EFD)
    for N in (1, 4):
        wrong = Routing(routing.weights_NK[:N], torch.full((N, 2), -1), routing.probs_NE[:N])
        with pytest.raises((ValueError, RuntimeError), match=r"experts must lie|out of bounds"):
            expert_mlp(x_ND[:N], wrong, w_in_EDH, w_out_EFD)
    with pytest.raises(ValueError, match="one dtype"):
        expert_mlp(x_ND.double(), routing, w_in_EDH, w_out_EFD)
    with pytest.raises(ValueError, match="unknown method 'fast'"):
        expert_mlp(x_ND, routing, w_in_EDH, w_out_EFD, method="fast")
    with pytest.raises(ValueError, match="'dense' has no gradient"):
        expert_mlp(x_ND, routing, w_in_EDH.requires_grad_(), w_out_EFD, method="dense")


def test_a_gradient_is_never_asked_of_a_method_without_one() -> None:
    for N in range(0, 100, 3):
        for E in (1, 8, 64):
            for dtype in (torch.float32, torch.bfloat16):
                for device in ("cpu", "cuda"):
                    method = choose_method(N, 1, E, dtype=dtype, device=torch.device(device), needs_grad=True)
                    assert method in ("grouped", "blocks")
