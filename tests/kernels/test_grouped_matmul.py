import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fun_asr.kernels import BACKENDS, choose_backend, grouped_matmul, grouped_mm_supports

CPU = torch.device("cpu")


def per_row_loop(x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor) -> Tensor:
    """The product in float64, one row at a time."""
    rows = []
    for n in range(x_ND.shape[0]):
        e = sum(end <= n for end in offsets_E.tolist())
        rows.append(x_ND[n].double() @ w_EDF[e].double())
    return torch.stack(rows) if rows else x_ND.double() @ w_EDF[0].double()


def offsets_of(counts: list[int]) -> Tensor:
    return torch.tensor(counts).cumsum(0).to(torch.int32)


def random_operands(
    counts: list[int], D: int, F: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(sum(counts), D, generator=generator).to(dtype)
    w_EDF = (torch.randn(len(counts), D, F, generator=generator) / max(D, 1) ** 0.5).to(dtype)
    return x_ND, w_EDF, offsets_of(counts)


def applicable_backends(N: int, D: int, F: int, dtype: torch.dtype) -> list[str | None]:
    has_grouped_mm = grouped_mm_supports(N, D, F, dtype=dtype, device=CPU)
    return [None, *(b for b in BACKENDS if b != "grouped_mm" or has_grouped_mm)]


def assert_matches_loop(
    x_ND: Tensor, w_EDF: Tensor, offsets_E: Tensor, backend: str | None, gradient_NF: Tensor, tolerance: float
) -> None:
    x_ND, w_EDF = x_ND.detach().requires_grad_(), w_EDF.detach().requires_grad_()
    y_NF = grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend)
    gradients = torch.autograd.grad(y_NF, (x_ND, w_EDF), gradient_NF)

    expected_NF = per_row_loop(x_ND, w_EDF, offsets_E)
    expected_gradients = torch.autograd.grad(expected_NF, (x_ND, w_EDF), gradient_NF.double())

    with torch.no_grad():
        without_grad_NF = grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend)
    assert y_NF.dtype == x_ND.dtype
    for actual, expected in (
        (y_NF, expected_NF),
        (without_grad_NF, expected_NF),
        (gradients[0], expected_gradients[0]),
        (gradients[1], expected_gradients[1]),
    ):
        assert_close(actual.double(), expected.double(), rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    D=st.integers(1, 40) | st.sampled_from([8, 16, 24, 32]),
    F=st.integers(1, 40) | st.sampled_from([8, 16, 24, 32]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    layout=st.sampled_from(["contiguous", "sliced", "strided", "transposed"]),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_layout_matches_the_loop(
    counts: list[int], D: int, F: int, dtype: torch.dtype, layout: str, seed: int
) -> None:
    x_ND, w_EDF, offsets_E = random_operands(counts, D, F, seed, dtype)
    gradient_NF = torch.randn(x_ND.shape[0], F, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x_ND, w_EDF, gradient_NF = (with_layout(t, layout) for t in (x_ND, w_EDF, gradient_NF))
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for backend in applicable_backends(x_ND.shape[0], D, F, dtype):
        assert_matches_loop(x_ND, w_EDF, offsets_E, backend, gradient_NF, tolerance)


def with_layout(t: Tensor, layout: str) -> Tensor:
    if layout == "sliced":
        return torch.cat((t, t[..., :1]), dim=-1)[..., : t.shape[-1]]
    if layout == "strided":
        return torch.repeat_interleave(t, 2, dim=-1)[..., ::2]
    if layout == "transposed":
        return t.transpose(-1, -2).contiguous().transpose(-1, -2)
    return t


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=9) | st.just([0, 1, 2, 0] * 32),
    D=st.integers(1, 40),
    F=st.integers(1, 40) | st.sampled_from([8, 16]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**31),
)
def test_int8_matrices_stand_for_their_multiples(
    counts: list[int], D: int, F: int, dtype: torch.dtype, seed: int
) -> None:
    x_ND, _, offsets_E = random_operands(counts, D, F, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    w_EDF = torch.randint(-127, 128, (len(counts), D, F), generator=generator, dtype=torch.int8)
    scale_EF = torch.rand(len(counts), F, generator=generator) / 127 / D**0.5
    gradient_NF = torch.randn(len(x_ND), F, generator=generator)
    expected_x, expected_scale = x_ND.double().requires_grad_(), scale_EF.double().requires_grad_()
    expected_NF = per_row_loop(expected_x, w_EDF.double() * expected_scale[:, None], offsets_E)
    expected = torch.autograd.grad(expected_NF, (expected_x, expected_scale), gradient_NF.double(), allow_unused=True)
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    for backend in applicable_backends(len(x_ND), D, F, dtype):
        x, scale = x_ND.detach().requires_grad_(), scale_EF.detach().requires_grad_()
        y_NF = grouped_matmul(x, w_EDF, offsets_E, scale_EF=scale, backend=backend)
        actual = torch.autograd.grad(y_NF, (x, scale), gradient_NF.to(dtype))
        assert y_NF.dtype == dtype
        assert_close(y_NF.double(), expected_NF, rtol=tolerance, atol=tolerance)
        assert_close(actual[0].double(), expected[0], rtol=tolerance, atol=tolerance)
        steps = torch.zeros_like(actual[1]).double() if expected[1] is None else expected[1]
        # A step's gradient sums products with whole numbers up to 127.
        assert_close(actual[1].double(), steps, rtol=tolerance, atol=127 * D * tolerance)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize(
    "counts",
    [[3, 0, 5, 0], [0, 0, 7], [9], [1, 0], [1] * 5, [0, 1, 2, 0] * 32],
    ids=["empty_experts", "only_the_last_expert", "one_expert", "one_row", "one_row_each", "128_experts"],
)
def test_expert_counts(backend: str | None, counts: list[int]) -> None:
    x_ND, w_EDF, offsets_E = random_operands(counts, 16, 24)
    assert_matches_loop(x_ND, w_EDF, offsets_E, backend, torch.randn(sum(counts), 24), 1e-4)


@pytest.mark.parametrize("backend", [None, "split", "select", "gather"])
def test_no_rows_give_zero_gradients(backend: str | None) -> None:
    x_ND, w_EDF, offsets_E = random_operands([0, 0, 0], 16, 24)
    w_EDF.requires_grad_()
    y_NF = grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend)
    assert y_NF.shape == (0, 24)
    y_NF.sum().backward()
    assert w_EDF.grad is not None and not w_EDF.grad.any()


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize("counts", [[2, 0, 3], [1, 0, 0]])
def test_expanded_gradient(backend: str | None, counts: list[int]) -> None:
    x_ND, w_EDF, offsets_E = random_operands(counts, 16, 24)
    x_ND.requires_grad_()
    w_EDF.requires_grad_()
    grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend).sum().backward()
    expected = torch.autograd.grad(per_row_loop(x_ND, w_EDF, offsets_E).sum(), (x_ND, w_EDF))
    assert x_ND.grad is not None and w_EDF.grad is not None
    assert_close(x_ND.grad, expected[0])
    assert_close(w_EDF.grad, expected[1])


def test_one_row_cut_from_a_wider_tensor() -> None:
    """is_contiguous() holds for one row of any stride, and grouped_mm refuses the stride."""
    _, w_EDF, offsets_E = random_operands([0, 1], 16, 24)
    x_ND = torch.randn(1, 17)[:, :16]
    assert_matches_loop(x_ND, w_EDF, offsets_E, "grouped_mm", torch.randn(1, 25)[:, :24], 1e-4)


@pytest.mark.parametrize("backend", [None, "split", "select", "gather"])
def test_float64_passes_gradcheck(backend: str | None) -> None:
    x_ND, w_EDF, offsets_E = random_operands([2, 0, 1], 3, 5, dtype=torch.float64)

    def product(x_ND: Tensor, w_EDF: Tensor) -> Tensor:
        return grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend)

    assert torch.autograd.gradcheck(product, (x_ND.requires_grad_(), w_EDF.requires_grad_()))


@pytest.mark.parametrize("backend", [None, *BACKENDS])
@pytest.mark.parametrize(
    "offsets",
    [[2, 4, 6], [2, 4, 9], [4, 2, 8], [-1, 4, 8], [8, 8, 7], [2, 4, 2**31 - 1]],
    ids=["short", "long", "decreasing", "negative", "past_the_end", "huge"],
)
def test_offsets_that_do_not_partition_the_rows_are_refused(backend: str | None, offsets: list[int]) -> None:
    x_ND, w_EDF, _ = random_operands([2, 2, 4], 16, 24)
    with pytest.raises(ValueError, match="offsets must be non-decreasing"):
        grouped_matmul(x_ND, w_EDF, torch.tensor(offsets, dtype=torch.int32), backend=backend)


def test_operands_that_disagree_are_refused() -> None:
    x_ND, w_EDF, offsets_E = random_operands([2, 2, 4], 16, 24)
    with pytest.raises(ValueError, match="must agree"):
        grouped_matmul(x_ND[:, :8], w_EDF, offsets_E)
    with pytest.raises(ValueError, match="must agree"):
        grouped_matmul(x_ND, w_EDF, offsets_E[1:])
    with pytest.raises(ValueError, match="expected x"):
        grouped_matmul(x_ND, w_EDF[0], offsets_E)
    with pytest.raises(ValueError, match="int32"):
        grouped_matmul(x_ND, w_EDF, offsets_E.long())
    with pytest.raises(ValueError, match="one dtype"):
        grouped_matmul(x_ND.bfloat16(), w_EDF, offsets_E)
    with pytest.raises(ValueError, match="one device"):
        grouped_matmul(x_ND, w_EDF.to("meta"), offsets_E)


def test_backend_by_name() -> None:
    x_ND, w_EDF, offsets_E = random_operands([2, 2], 15, 24)
    with pytest.raises(ValueError, match="unknown backend 'cublas'"):
        grouped_matmul(x_ND, w_EDF, offsets_E, backend="cublas")
    with pytest.raises(ValueError, match="does not take"):
        grouped_matmul(x_ND, w_EDF, offsets_E, backend="grouped_mm")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("needs_grad", [False, True])
def test_the_choice_always_applies(dtype: torch.dtype, needs_grad: bool) -> None:
    for N in (0, 1, 2, 8, 64):
        for E in (1, 8, 128):
            for D, F in ((1, 1), (8, 12), (9, 16), (32, 32)):
                chosen = choose_backend(N, E, D, F, dtype=dtype, device=CPU, needs_grad=needs_grad)
                assert chosen in applicable_backends(N, D, F, dtype)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_autocast_casts_both_operands_as_matmul_does(backend: str | None) -> None:
    x_ND, w_EDF, offsets_E = random_operands([1, 0, 3], 16, 24)
    w_EDF.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_NF = grouped_matmul(x_ND, w_EDF, offsets_E, backend=backend)
        expected_NF = torch.cat([x_ND[:1] @ w_EDF[0], x_ND[1:] @ w_EDF[2]])
        mixed_NF = grouped_matmul(x_ND.bfloat16(), w_EDF, offsets_E, backend=backend)
    assert y_NF.dtype == mixed_NF.dtype == torch.bfloat16
    assert_close(y_NF, expected_NF)
    assert_close(mixed_NF, expected_NF)
    y_NF.sum().backward()
    assert w_EDF.grad is not None and w_EDF.grad.dtype == torch.float32


def test_autocast_leaves_float64_alone() -> None:
    x_ND, w_EDF, offsets_E = random_operands([1, 3], 16, 24, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert grouped_matmul(x_ND, w_EDF, offsets_E).dtype == torch.float64


def test_int8_matrices_and_scales_belong_together() -> None:
    x_ND, w_EDF, offsets_E = random_operands([2, 3], 8, 16)
    integers, scale_EF = w_EDF.mul(100).to(torch.int8), torch.ones(2, 16)
    with pytest.raises(ValueError, match="int8 matrices need scale_EF"):
        grouped_matmul(x_ND, integers, offsets_E)
    with pytest.raises(ValueError, match="others take none"):
        grouped_matmul(x_ND, w_EDF, offsets_E, scale_EF=scale_EF)
    with pytest.raises(ValueError, match=r"expected a floating-point scale \[2, 16\]"):
        grouped_matmul(x_ND, integers, offsets_E, scale_EF=scale_EF[:, :8])
    with pytest.raises(ValueError, match="x must be floating-point"):
        grouped_matmul(x_ND.to(torch.int8), integers, offsets_E, scale_EF=scale_EF)
