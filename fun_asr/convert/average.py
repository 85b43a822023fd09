"""Averages of models that were trained from the same start (Wortsman et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fun_asr.errors import CheckpointError

__all__ = ["average_states"]


def average_states(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], keep: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Weighted mean of parameters by name, float32; those whose names start with one of `keep` are the first state's.

    Raises:
        CheckpointError: when a parameter is missing from a state or has another shape there.
    """
    mean = {}
    for name, first in states[0].items():
        if name.startswith(keep):
            mean[name] = first.clone()
            continue
        if any(name not in state or state[name].shape != first.shape for state in states):
            raise CheckpointError(f"the models differ in {name}: only models of one configuration can be averaged")
        weighted = [weight * state[name].double() for state, weight in zip(states, weights, strict=True)]
        mean[name] = (torch.stack(weighted).sum(dim=0) / sum(weights)).float()
    return mean
