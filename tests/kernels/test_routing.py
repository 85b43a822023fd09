import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fun_asr.kernels import (
    combine,
    expert_load,
    group_by_expert,
    grouped_matmul,
    load_balancing_loss,
    route,
    route_by_sigmoid,
    routing_entropy,
    update_bias,
    z_loss,
)


def random_experts(N: int, K: int, E: int, seed: int) -> torch.Tensor:
    return torch.rand(N, E, generator=torch.Generator().manual_seed(seed)).argsort(dim=-1)[:, :K]


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_route_equals_qwen3_moe(renormalize: bool, dtype: torch.dtype) -> None:
    qwen3_moe = pytest.importorskip("transformers.models.qwen3_moe")
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    config = qwen3_moe.Qwen3MoeConfig(hidden_size=32, num_experts=16, num_experts_per_tok=4, norm_topk_prob=renormalize)
    router = modeling.Qwen3MoeTopKRouter(config).to(dtype)
    torch.nn.init.normal_(router.weight)
    hidden_ND = torch.randn(50, 32).to(dtype)
    logits_NE, weights_NK, experts_NK = router(hidden_ND)

    routing = route(logits_NE, 4, renormalize=renormalize)
    # bfloat16 logits tie, and there torch.topk's order is not ours.
    ties_N = logits_NE.sort(dim=-1).values.diff(dim=-1).eq(0).any(dim=-1)
    assert torch.equal(routing.experts_NK[~ties_N], experts_NK[~ties_N])
    assert_close(routing.weights_NK.to(dtype), weights_NK)


@settings(max_examples=60, deadline=None)
@given(N=st.integers(0, 12), E=st.integers(1, 20), data=st.data(), biased=st.booleans(), seed=st.integers(0, 2**31))
def test_route_equals_a_numpy_loop(N: int, E: int, data: st.DataObject, biased: bool, seed: int) -> None:
    k = data.draw(st.integers(1, E))
    generator = np.random.default_rng(seed)
    # Integer logits, so that ties are common.
    logits_NE = generator.integers(-2, 3, (N, E)).astype(np.float32)
    bias_E = generator.integers(-1, 2, E).astype(np.float32) if biased else np.zeros(E, np.float32)
    routing = route(torch.from_numpy(logits_NE), k, bias_E=torch.from_numpy(bias_E) if biased else None)
    assert routing.experts_NK.shape == routing.weights_NK.shape == (N, k)
    assert routing.experts_NK.dtype == torch.int64
    for n in range(N):
        probs_E = np.exp(logits_NE[n].astype(np.float64))
        probs_E /= probs_E.sum()
        experts = sorted(range(E), key=lambda e: (-round(float(probs_E[e] + bias_E[e]), 5), e))[:k]
        assert routing.experts_NK[n].tolist() == experts
        weights = probs_E[experts] / probs_E[experts].sum()
        np.testing.assert_allclose(routing.weights_NK[n].numpy(), weights, rtol=1e-5)
        np.testing.assert_allclose(routing.probs_NE[n].numpy(), probs_E, rtol=1e-5)


@pytest.mark.parametrize("E", [4, 128, 1024])
def test_lowest_expert_wins_a_tie(E: int) -> None:
    assert route(torch.zeros(3, E), 4).experts_NK.tolist() == [[0, 1, 2, 3]] * 3


def test_bias_only_chooses() -> None:
    logits_NE = torch.tensor([[2.0, 1.0, 0.0, -1.0]], requires_grad=True)
    bias_E = torch.tensor([0.0, 0.0, 0.0, 1.0], requires_grad=True)
    routing = route(logits_NE, 2, bias_E=bias_E)
    assert routing.experts_NK.tolist() == [[3, 0]]
    assert_close(routing.weights_NK, torch.tensor([[-1.0, 2.0]]).softmax(-1))
    assert_close(routing.probs_NE, logits_NE.softmax(-1))
    routing.weights_NK[0, 0].backward()
    assert bias_E.grad is None
    assert logits_NE.grad is not None and logits_NE.grad.any()


def test_chosen_experts_of_probability_zero_get_weight_zero() -> None:
    routing = route(torch.tensor([[500.0, 0.0, 0.0]]), 2, bias_E=torch.tensor([-9.0, 0.0, 0.0]))
    assert routing.experts_NK.tolist() == [[1, 2]]
    assert routing.weights_NK.tolist() == [[0.0, 0.0]]


def test_route_stays_float32_under_autocast() -> None:
    logits_NE = torch.randn(5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routing = route(logits_NE, 2)
    assert routing.weights_NK.dtype == routing.probs_NE.dtype == torch.float32
    assert_close(routing.probs_NE, logits_NE.softmax(-1))


def test_route_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="k must be between 1 and"):
        route(torch.zeros(2, 4), 5)
    with pytest.raises(ValueError, match="k must be between 1 and"):
        route(torch.zeros(2, 4), 0)
    with pytest.raises(ValueError, match="bias"):
        route(torch.zeros(2, 4), 1, bias_E=torch.zeros(3))
    with pytest.raises(ValueError, match="logits"):
        route(torch.zeros(2, 3, 4), 1)


@pytest.mark.parametrize("renormalize", [True, False])
def test_route_by_sigmoid_equals_nemotron_h(renormalize: bool) -> None:
    from transformers import NemotronHConfig
    from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHTopkRouter

    config = NemotronHConfig(
        hidden_size=16,
        n_routed_experts=12,
        num_experts_per_tok=4,
        norm_topk_prob=renormalize,
        routed_scaling_factor=2.5,
    )
    router = NemotronHTopkRouter(config)
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(50, 16, generator=generator)
    with torch.no_grad():
        router.weight.copy_(torch.randn(12, 16, generator=generator))
        router.e_score_correction_bias.copy_(torch.randn(12, generator=generator) * 0.3)
        logits_NE, weights_NK, experts_NK = router(x_ND)
    routing = route_by_sigmoid(logits_NE, 4, router.e_score_correction_bias, renormalize=renormalize, scale=2.5)

    def by_expert(weights_NK: Tensor, experts_NK: Tensor) -> Tensor:
        return torch.zeros(50, 12).scatter(1, experts_NK, weights_NK)

    found = by_expert(routing.weights_NK, routing.experts_NK)
    assert_close(found, by_expert(weights_NK, experts_NK).detach(), rtol=1e-6, atol=1e-6)


def test_route_by_sigmoid_refuses_wrong_shapes() -> None:
    for bias_E, k in ((torch.zeros(3), 2), (torch.zeros(4), 5), (torch.zeros(4), 0)):
        with pytest.raises(ValueError, match="1 <= k <= E"):
            route_by_sigmoid(torch.zeros(2, 4), k, bias_E, renormalize=True, scale=1.0)


@settings(max_examples=60, deadline=None)
@given(N=st.integers(0, 20), E=st.integers(1, 12), data=st.data(), seed=st.integers(0, 2**31))
def test_group_by_expert_round_trip(N: int, E: int, data: st.DataObject, seed: int) -> None:
    K = data.draw(st.integers(1, E))
    experts_NK = random_experts(N, K, E, seed)
    order, offsets_E = group_by_expert(experts_NK, E)
    assert offsets_E.dtype == torch.int32
    assert sorted(order.tolist()) == list(range(N * K))
    start = 0
    for e, end in enumerate(offsets_E.tolist()):
        rows = order[start:end].tolist()
        assert rows == sorted(rows)
        assert all(experts_NK.reshape(-1)[row] == e for row in rows)
        start = end
    assert start == N * K
    x_ND = torch.randn(N, 5)
    assert_close(combine(x_ND[order // K], order, torch.full((N, K), 1 / K)), x_ND)


@pytest.mark.parametrize("experts", [[[0, 4]], [[-1, 2]]])
def test_experts_out_of_range_are_refused(experts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="between 0 and 3"):
        group_by_expert(torch.tensor(experts), 4)
    with pytest.raises(ValueError, match="between 0 and 3"):
        expert_load(torch.tensor(experts), 4)


@settings(max_examples=25, deadline=None)
@given(N=st.integers(0, 10), E=st.integers(1, 6), data=st.data(), seed=st.integers(0, 2**31))
def test_the_pieces_make_a_moe_layer(N: int, E: int, data: st.DataObject, seed: int) -> None:
    """Route, sort, multiply, combine: the same output and gradients as a loop over tokens in float64."""
    K = data.draw(st.integers(1, E))
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(N, 8, generator=generator, dtype=torch.float64)
    x_ND = x_ND.float().requires_grad_()
    w_EDF = torch.randn(E, 8, 4, generator=generator).requires_grad_()
    logits_NE = torch.randn(N, E, generator=generator).requires_grad_()
    inputs = (x_ND, w_EDF, logits_NE)

    routing = route(logits_NE, K)
    order, offsets_E = group_by_expert(routing.experts_NK, E)
    y_ND = combine(grouped_matmul(x_ND[order // K], w_EDF, offsets_E), order, routing.weights_NK)

    weights_NE = torch.zeros(N, E, dtype=torch.float64).scatter(1, routing.experts_NK, 1.0) * logits_NE.double().exp()
    weights_NE = weights_NE / weights_NE.sum(-1, keepdim=True)
    expected_ND = torch.einsum("ne,nd,edf->nf", weights_NE, x_ND.double(), w_EDF.double())
    assert y_ND.dtype == torch.float32
    assert_close(y_ND.double(), expected_ND, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(y_ND.square().sum(), inputs)
    for actual, expected in zip(gradients, torch.autograd.grad(expected_ND.square().sum(), inputs), strict=True):
        assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_combine_sums_bfloat16_rows_in_float32() -> None:
    y_sorted = torch.tensor([[256.0], [1.0], [1.0], [1.0]], dtype=torch.bfloat16)
    combined_ND = combine(y_sorted, torch.arange(4), torch.ones(1, 4))
    assert combined_ND.dtype == torch.bfloat16
    # 259 rounds to 260 once; in bfloat16 256 + 1 stays 256.
    assert combined_ND.item() == 260


def test_combine_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="expected y_sorted"):
        combine(torch.zeros(5, 3), torch.arange(6), torch.zeros(3, 2))


def test_expert_load_counts_dead_experts_as_zero() -> None:
    load_E = expert_load(torch.tensor([[0, 2], [2, 4], [2, 0]]), 5)
    assert load_E.tolist() == [2, 0, 3, 0, 1]
    assert load_E.dtype == torch.int64
    assert expert_load(torch.empty(0, 2, dtype=torch.int64), 3).tolist() == [0, 0, 0]


def test_update_bias_by_hand() -> None:
    bias_E = update_bias(torch.tensor([0.5, 0.0, 0.0, 0.0]), torch.tensor([6, 1, 1, 4]), rate=0.1)
    # The mean load is 3: steps -0.1, +0.1, +0.1, -0.1, whose mean is 0.
    assert_close(bias_E, torch.tensor([0.4, 0.1, 0.1, -0.1]))
    # The mean load is 2: steps -0.1, +0.1, +0.1, +0.1, less their mean of 0.05.
    bias_E = update_bias(torch.zeros(4), torch.tensor([5, 1, 1, 1]), rate=0.1)
    assert_close(bias_E, torch.tensor([-0.15, 0.05, 0.05, 0.05]))
    assert_close(update_bias(bias_E, torch.full((4,), 7)), bias_E)


def test_bias_balances_a_skewed_router() -> None:
    generator = torch.Generator().manual_seed(0)
    N, E, k = 2048, 8, 2
    logits_NE = torch.randn(N, E, generator=generator) + torch.linspace(2, -2, E)
    even = N * k / E
    bias_E = torch.zeros(E)
    before_E = expert_load(route(logits_NE, k).experts_NK, E)
    for _ in range(400):
        bias_E = update_bias(bias_E, expert_load(route(logits_NE, k, bias_E=bias_E).experts_NK, E), rate=2e-3)
    after_E = expert_load(route(logits_NE, k, bias_E=bias_E).experts_NK, E)
    assert before_E.max() > 2 * even and before_E.min() < 0.2 * even
    assert after_E.max() < 1.1 * even and after_E.min() > 0.9 * even
    assert abs(bias_E.sum().item()) < 1e-4


def test_load_balancing_loss_by_hand() -> None:
    probs_NE = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    # Expert 0 has two of four rows, experts 1 and 2 one each; mean probabilities 0.6, 0.25, 0.15.
    loss = load_balancing_loss(probs_NE, torch.tensor([[0, 1], [0, 2]]))
    assert_close(loss, torch.tensor(3 * (0.5 * 0.6 + 0.25 * 0.25 + 0.25 * 0.15)))
    one_hot_NE = torch.eye(4)
    assert_close(load_balancing_loss(one_hot_NE, torch.arange(4).unsqueeze(1)), torch.tensor(1.0))
    assert_close(load_balancing_loss(one_hot_NE[:1].expand(4, 4), torch.zeros(4, 1).long()), torch.tensor(4.0))


def test_load_balancing_loss_is_qwen3_moe_over_k() -> None:
    modeling = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    logits_NE = torch.randn(30, 8)
    routing = route(logits_NE, 3)
    expected = modeling.load_balancing_loss_func((logits_NE,), num_experts=8, top_k=3)
    assert_close(3 * load_balancing_loss(routing.probs_NE, routing.experts_NK), expected)


def test_load_balancing_loss_pushes_the_busy_expert_down() -> None:
    logits_NE = torch.tensor([[2.0, 0.0], [1.0, 0.0]], requires_grad=True)
    routing = route(logits_NE, 1)
    load_balancing_loss(routing.probs_NE, routing.experts_NK).backward()
    assert logits_NE.grad is not None
    assert (logits_NE.grad[:, 0] > 0).all() and (logits_NE.grad[:, 1] < 0).all()


def test_z_loss_by_hand() -> None:
    logits_NE = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    expected = (math.log(2) ** 2 + math.log(4) ** 2) / 2
    assert_close(z_loss(logits_NE), torch.tensor(expected))
    assert z_loss(logits_NE.bfloat16()).dtype == torch.float32


def test_routing_entropy_by_hand() -> None:
    probs_NE = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert_close(routing_entropy(probs_NE), torch.tensor(math.log(2) / 2))
    assert_close(routing_entropy(torch.full((3, 4), 0.25)), torch.tensor(math.log(4)))


def test_losses_of_no_tokens_are_zero() -> None:
    nothing_NE = torch.zeros(0, 4)
    assert load_balancing_loss(nothing_NE, torch.zeros(0, 2).long()) == 0
    assert z_loss(nothing_NE) == 0
    assert routing_entropy(nothing_NE) == 0
