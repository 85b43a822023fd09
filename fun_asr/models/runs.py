"""Which waves of a batch an encoder takes together, and to which length they are padded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE

__all__ = ["encoder_runs", "of_few_lengths"]

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


def of_few_lengths(features: Tensor, multiple: int, *, dim: int, most: int | None = None) -> Tensor:
    """Features on the CPU with zeros behind them, up to a multiple of so many frames.

    oneDNN keeps what it makes for a convolution of each shape it has met, whatever the bound of its cache: 0.2 MB a
    length of the bundled encoder, so that hours of speech would take hundreds.

    Arguments:
        features: zero beyond each utterance's frames.
        multiple: of frames.
        dim: the dimension of the frames.
        most: frames that the encoder takes; None for any.
    """
    frames = features.shape[dim]
    padded = -(-frames // multiple) * multiple
    if most is not None:
        padded = max(frames, min(padded, most))
    if features.device.type != "cpu" or padded == frames:
        return features
    behind = [0, 0] * (features.dim() - 1 - dim % features.dim()) + [0, padded - frames]
    return F.pad(features, behind)
