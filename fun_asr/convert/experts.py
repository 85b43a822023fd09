"""New routed experts in the place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.network import FunASR

__all__ = ["replace_experts"]

_ROUTED = (".router.", ".experts.")


def replace_experts(config: ModelConfig, state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The state of a model of `config` with all that `state` has but its routed experts and routers, which are new.

    Arguments:
        config: the new model's; it may differ from the old one's in the decoder's routed experts.
        state: the old model's parameters, float32.
        seed: of the new ones' initialisation, with which they add nothing.
    """
    torch.manual_seed(seed)
    new = FunASR(config).state_dict()
    kept = {name: tensor for name, tensor in state.items() if not any(part in name for part in _ROUTED)}
    return new | kept
