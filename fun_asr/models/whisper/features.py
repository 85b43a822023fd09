"""Whisper's input: the log-mel of a segment padded with silence to the length of the model's window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.features import DYNAMIC_RANGE, HOP_LENGTH, N_FFT, mel_filters

__all__ = ["padded_log_mel"]


def padded_log_mel(
    segments: Sequence[npt.NDArray[np.float32]], *, n_mels: int, frames: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Log-mel spectrograms of segments, each padded with zeros (Radford et al. 2022, section 2.2).

    Unlike `fun_asr.audio.features`, the padding counts as sound: the window mirrors its end, and the floor is what it
    is under the loudest of all frames.

    Arguments:
        segments: mono float32 `[samples]` at 16 kHz, in [-1, 1], none longer than the window.
        n_mels: mel bins.
        frames: of 10 ms, the window's.
        device: where the features are computed and left.

    Returns:
        float32 `[B, n_mels, frames]`.

    Raises:
        ValueError: for a segment that is longer.
    """
    samples = frames * HOP_LENGTH
    if any(len(segment) > samples for segment in segments):
        raise ValueError(f"a segment is longer than {samples} samples")
    batch = torch.stack(
        [F.pad(torch.as_tensor(segment, dtype=torch.float32), (0, samples - len(segment))) for segment in segments]
    ).to(device)
    window = torch.hann_window(N_FFT, device=device)
    spectrum = torch.stft(batch, N_FFT, HOP_LENGTH, window=window, center=True, return_complex=True)
    power = spectrum[..., :frames].abs().square()
    log_power = (mel_filters(n_mels).to(device) @ power).clamp(min=1e-10).log10()
    floor = log_power.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
    return (torch.maximum(log_power, floor) + 4) / 4
