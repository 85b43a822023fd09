"""Which waves of a batch an encoder takes together."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fun_asr.audio.decode import SAMPLE_RATE

__all__ = ["encoder_runs"]

SAMPLES_AT_ONCE_ON_CPU = 30 * SAMPLE_RATE  # padded, in a run of the encoder: as fast as a whole batch, in less memory


def encoder_runs(samples: Mapping[int, int], device: torch.device) -> list[list[int]]:
    """The waves of each run: all at once, but on the CPU few of like lengths.

    Arguments:
        samples: the length of each wave, by its place in the batch.
        device: the encoder's.
    """
    if device.type != "cpu":
        return [list(samples)] if samples else []
    runs: list[list[int]] = []
    for b in sorted(samples, key=lambda b: samples[b]):
        if runs and (len(runs[-1]) + 1) * samples[b] <= SAMPLES_AT_ONCE_ON_CPU:
            runs[-1].append(b)
        else:
            runs.append([b])
    return runs
