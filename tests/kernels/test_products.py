"""Laid-out matrices against products in float64, for one row and for many."""

import pytest
import torch
from torch import Tensor

from fun_asr.kernels import products
from fun_asr.kernels.products import DenseProduct, Int4Product, Int8Product, PackedProduct, Product
from fun_asr.weights.int4 import dequantize_int4, quantize_int4
from fun_asr.weights.int8 import quantize

COUNTS = (0, 1, 2, 5, 63, 64, 200)
SHAPES = ((48, 128), (128, 256), (37, 100), (512, 384), (1, 1))


def multiply(product: Product, x_ND: Tensor) -> Tensor:
    y_NF = product.multiply(product.prepare(x_ND))
    assert y_NF.shape == (len(x_ND), product.out_features)
    return y_NF.double()


def relative_error(y_NF: Tensor, expected_NF: Tensor) -> float:
    return ((y_NF - expected_NF).norm() / expected_NF.norm().clamp_min(1e-30)).item()


def test_rows_of_any_number_share_a_few_kernels() -> None:
    counts = {products._rows_in_steps(N) for N in range(1, 30_000)}

    assert len(counts) < 110
    assert all(N <= products._rows_in_steps(N) < 1.13 * N + 1 for N in range(1, 30_000))


@pytest.mark.parametrize("shape", [(3, 64), (2, 17, 64), (300, 64), (0, 64), (2, 0, 64)])
def test_engines_multiply_integers_exactly(shape: tuple[int, ...]) -> None:
    engines = [engine for engine in products.INT8_ENGINES if products.is_exact(engine)]
    if not engines:
        pytest.skip("no int8 products here")
    generator = torch.Generator().manual_seed(1)
    integers = torch.randint(-127, 128, (40, 64), generator=generator).to(torch.int8)
    for engine in engines:
        digits = torch.randint(-engine.steps, engine.steps + 1, shape, generator=generator)
        step, shift = torch.full((*shape[:-1], 1), 0.25), torch.full((*shape[:-1], 1), 1.0)
        packed = engine.pack(integers, torch.ones(40, 1))
        expected = digits.double() @ integers.double().T
        for x in (engine.digits(digits.float()), engine.digits((digits + 1) * 0.25, step, shift)):
            assert torch.equal(engine.multiply(x, packed).double(), expected)


def operands(F: int, D: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(F + D)
    return torch.randn(max(COUNTS), D, generator=generator), torch.randn(F, D, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [DenseProduct, PackedProduct])
def test_floating_matrices(kind: type, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    if kind is PackedProduct and not products.can_pack(dtype):
        pytest.skip("not laid out here")
    x_ND, weight_FD = operands(*shape)
    product = kind(weight_FD.to(dtype))
    for N in COUNTS:
        x = x_ND[:N].to(dtype)
        y = multiply(product, x)
        assert relative_error(y, x.double() @ weight_FD.to(dtype).double().T) < (1e-6 if dtype.itemsize == 4 else 4e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_errs_by_its_weights_only(shape: tuple[int, int]) -> None:
    if products.int8_steps() is None:
        pytest.skip("no int8 products here")
    x_ND, weight_FD = operands(*shape)
    integers, scale = quantize("", weight_FD)
    product = Int8Product(integers, scale)
    for N in COUNTS:
        expected = x_ND[:N].double() @ (integers.double() * scale.double()).T
        assert relative_error(multiply(product, x_ND[:N]), expected) < 2e-4


def test_int8_keeps_small_inputs_beside_an_outlier() -> None:
    steps = products.int8_steps()
    if steps is None:
        pytest.skip("no int8 products here")
    x_ND, weight_FD = operands(64, 512)
    x_ND = x_ND[:4].clone()
    x_ND[:, 7] = 300.0
    integers, scale = quantize("", weight_FD)
    integers[:, 7] = 0
    expected = x_ND.double() @ (integers.double() * scale.double()).T
    bound = 300 / (2 * steps**2)  # of an input's error
    found = multiply(Int8Product(integers, scale), x_ND)
    assert ((found - expected).abs() <= bound / 2 * (integers.double() * scale.double()).abs().sum(dim=1) + 1e-3).all()
    assert relative_error(found, expected) < bound


@pytest.mark.parametrize("shape", SHAPES)
def test_int4_errs_by_its_weights_only(shape: tuple[int, int]) -> None:
    if not products.can_int4():
        pytest.skip("no int4 products here")
    x_ND, weight_FD = operands(*shape)
    nibbles, scale = quantize_int4(weight_FD)
    product = Int4Product(nibbles, scale, shape[1])
    stands_for = dequantize_int4(nibbles, scale, shape[1]).double()
    for N in COUNTS:
        x = x_ND[:N].bfloat16()
        assert relative_error(multiply(product, x), x.double() @ stands_for.T) < 6e-3


@pytest.mark.parametrize("features", [64, 96, 128, 32])
def test_int4_spread_out_equals_its_own_products(features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not products.can_int4() or products.int4_block(features) is None:
        pytest.skip("not laid out here as known")
    x_ND, weight_FD = operands(features, 256)
    product = Int4Product(*quantize_int4(weight_FD))
    spread = multiply(product, x_ND[:100])
    monkeypatch.setattr(products, "_SPREAD_MIN_ROWS", 1000)
    assert relative_error(spread, multiply(product, x_ND[:100])) < 6e-3


def test_an_unknown_int4_layout_is_not_spread_out(monkeypatch: pytest.MonkeyPatch) -> None:
    if not products.can_int4():
        pytest.skip("no int4 products here")
    monkeypatch.setattr(products, "int4_block", lambda _: None)
    x_ND, weight_FD = operands(64, 128)
    nibbles, scale = quantize_int4(weight_FD)
    expected = x_ND.double() @ dequantize_int4(nibbles, scale, 128).double().T
    assert relative_error(multiply(Int4Product(nibbles, scale), x_ND), expected) < 6e-3


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_row_does_not_depend_on_its_neighbours(kind: str) -> None:
    if products.int8_steps() is None or not products.can_int4():
        pytest.skip("no integer products here")
    x_ND, weight_FD = operands(64, 256)
    product: Product = (
        Int8Product(*quantize("", weight_FD)) if kind == "int8" else Int4Product(*quantize_int4(weight_FD))
    )
    x_ND = x_ND[:9].clone()
    x_ND[4] *= 1000
    torch.testing.assert_close(multiply(product, x_ND)[:4], multiply(product, x_ND[:4]), rtol=1e-5, atol=1e-5)
