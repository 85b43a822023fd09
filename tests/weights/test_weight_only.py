"""Networks whose matrices are laid out as they are, int8 or int4."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from fun_asr.kernels import Routing
from fun_asr.layers.moe import MoEFeedForward
from fun_asr.weights import weight_only
from fun_asr.weights.int4 import dequantize_int4, quantize_int4
from fun_asr.weights.int8 import quantize
from fun_asr.weights.weight_only import (
    Layout,
    ProductExperts,
    ProductLinear,
    product_of,
    replace_matrices,
    replace_stored,
)


def network() -> MoEFeedForward:
    torch.manual_seed(0)
    model = MoEFeedForward(128, 256, 6, 2, 64).eval()
    nn.init.normal_(model.experts.down_EDF, std=0.1)
    return model


def rounded(model: MoEFeedForward, layout: Layout) -> MoEFeedForward:
    """The network with the values that a layout holds."""
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or "router" in name or layout is Layout.PACKED:
            continue
        if layout is Layout.INT4:
            parameter.data = dequantize_int4(*quantize_int4(parameter), parameter.shape[-1])
        else:
            integers, scale = quantize("a.experts.b" if parameter.dim() == 3 else "", parameter.detach())
            parameter.data = integers.float() * scale
    return model


@pytest.fixture(params=["here", "elsewhere"])
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's operators, and what stands in where a torch or processor lacks them."""
    if request.param == "elsewhere":
        monkeypatch.setattr(weight_only, "can_pack", lambda _: False)
        monkeypatch.setattr(weight_only, "can_int4", lambda: False)
        monkeypatch.setattr(weight_only, "int8_steps", lambda: None)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("N", [1, 5, 300])
def test_a_replaced_network_computes_the_same(layout: Layout, dtype: torch.dtype, N: int) -> None:
    x = torch.randn(N, 128, generator=torch.Generator().manual_seed(N)).to(dtype)
    model = network().to(dtype)
    expected = rounded(network().to(dtype).float(), layout).double()
    with torch.inference_mode():
        replace_matrices(model, layout)
        y = model(x)
        reference = expected.shared(x.double()) + _experts(expected, x.double(), model.router(x))
    assert isinstance(model.experts, ProductExperts)
    assert isinstance(model.shared.up, ProductLinear)
    assert isinstance(model.router.gate, nn.Linear)
    assert y.dtype == dtype
    tolerance = 1e-3 if dtype == torch.float32 and layout is not Layout.INT4 else 2e-2
    assert (y - reference).norm() < tolerance * reference.norm()


def _experts(model: MoEFeedForward, x_ND: Tensor, routing: Routing) -> Tensor:
    y_ND: Tensor = model.experts(x_ND, dataclasses.replace(routing, weights_NK=routing.weights_NK.double()))
    return y_ND


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("layout", [Layout.INT8, Layout.INT4])
def test_stored_integers_give_the_same_network(layout: Layout) -> None:
    model, stored_model = network(), network()
    stored = {}
    for name, parameter in stored_model.named_parameters():
        if parameter.dim() >= 2 and "router" not in name:
            if layout is Layout.INT4:
                stored[name] = quantize_int4(parameter)
            else:
                stored[name] = quantize(f"ffn.{name}", parameter.detach())
    x = torch.randn(7, 128)
    with torch.inference_mode():
        replace_matrices(model, layout)
        replace_stored(stored_model, stored)
        assert torch.equal(model(x), stored_model(x))


def test_named_layers_stay() -> None:
    model = network()
    replace_matrices(model, Layout.INT8, keep=("shared.up",))
    assert isinstance(model.shared.up, nn.Linear) and isinstance(model.shared.down, ProductLinear)


def test_other_layers_have_no_integer_form() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 3))
    with pytest.raises(TypeError, match=r"0\.weight: no integer form of Conv1d"):
        replace_stored(model, {"0.weight": (torch.zeros(4, 4, 3, dtype=torch.int8), torch.ones(4, 1, 1))})


def test_linear_keeps_leading_dimensions_bias_and_dtype() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(128, 48)
    replaced = ProductLinear(product_of(linear.weight, Layout.PACKED), linear.bias)
    x = torch.randn(2, 3, 128)
    with torch.inference_mode():
        torch.testing.assert_close(replaced(x), linear(x), rtol=1e-5, atol=1e-5)
        assert replaced(torch.randn(0, 3, 128)).shape == (0, 3, 48)
