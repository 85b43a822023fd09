"""int4: symmetric integers of 4 bits, one scale for each output and group of 128 inputs.

Shapes: F output width, D input width, a multiple of the group after padding with zeros, G = D / 128 groups; leading
dimensions, such as the experts of a layer, are kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.kernels.products import GROUP

__all__ = ["dequantize_int4", "quantize_int4"]

_LARGEST = (7.0, 8.0, 9.0)
"""What the largest weight of a group is tried as: beyond 7 it is clipped and the others are rounded more finely."""


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pack a matrix: of the scales that clip its largest weights a little or not, each group takes the best.

    Arguments:
        weight: `[..., F, D]`, floating.

    Returns:
        uint8 `[..., F, D / 2]` (input 2j in the low four bits of byte j, 2j + 1 in the high ones, each 8 more than the
        integer from -8 to 7) and bfloat16 scales `[..., F, G]`.
    """
    groups = F.pad(weight.detach().float(), (0, -weight.shape[-1] % GROUP)).unflatten(-1, (-1, GROUP))
    # Signed, so that the largest weight lies where there is one integer more.
    place = groups.abs().argmax(dim=-1, keepdim=True)
    largest = -groups.gather(-1, place)
    tiny = torch.finfo(torch.bfloat16).tiny
    best_error = torch.full_like(largest, torch.inf)
    best_scale = best_integers = None
    for bound in _LARGEST:
        # Rounded first, so that the integers are those of the scale as it is stored.
        scale = (largest / bound).bfloat16().float()
        scale = torch.where(scale.abs() < tiny, tiny, scale)
        integers = (groups / scale).round().clamp(-8, 7)
        error = (integers * scale - groups).square().sum(dim=-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = scale if best_scale is None else torch.where(better, scale, best_scale)
        best_integers = integers if best_integers is None else torch.where(better, integers, best_integers)
    assert best_scale is not None and best_integers is not None
    nibbles: Tensor = (best_integers + 8).to(torch.uint8).flatten(-2)
    packed: Tensor = nibbles[..., ::2] | nibbles[..., 1::2] << 4
    return packed, best_scale.squeeze(-1).bfloat16()


def dequantize_int4(nibbles: Tensor, scale: Tensor, in_features: int) -> Tensor:
    """Return the float32 matrix `[..., F, in_features]` that `quantize_int4` packed."""
    integers: Tensor = torch.stack((nibbles & 15, nibbles >> 4), dim=-1).flatten(-2).float() - 8
    weight = (integers.unflatten(-1, (-1, GROUP)) * scale.float().unsqueeze(-1)).flatten(-2)
    kept: Tensor = weight[..., :in_features]
    return kept
