"""Self-attention in training and outside of it: torch's fused attention is the reference."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.layers.attention import SelfAttention


def masks() -> dict[str, Tensor | None]:
    valid = torch.arange(9) < torch.tensor([9, 4])[:, None]
    return {"none": None, "valid frames": valid, "added": torch.where(valid, 0.3, -torch.inf)}


@pytest.mark.parametrize("kind", ["none", "valid frames", "added"])
def test_training_computes_and_learns_what_the_fused_kernel_does(kind: str) -> None:
    torch.manual_seed(0)
    mask = masks()[kind]
    layer = SelfAttention(16, 4)
    x = torch.randn(2, 9, 16)
    q, k, v = layer.qkv(x).view(2, 9, 3, 4, -1).permute(2, 0, 3, 1, 4)
    keys = None if mask is None else mask[:, None, None]
    wanted = layer.out(F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2).flatten(2))
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(wanted.square().sum(), parameters)

    found = layer(x, mask)

    torch.testing.assert_close(found, wanted)
    for gradient, other in zip(torch.autograd.grad(found.square().sum(), parameters), expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, mask), wanted)
