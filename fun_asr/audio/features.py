"""Log-mel features, batched, equal for a padded and an unpadded utterance (Radford et al. 2022, section 2.2)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE

N_FFT = 400  # samples: 25 ms
HOP_LENGTH = 160  # samples: 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
DYNAMIC_RANGE = 8.0  # in log10: bins more than 80 dB under the loudest are floored


def num_frames(samples: int) -> int:
    """Log-mel frames of `samples` samples: one each started 10 ms."""
    return -(-samples // HOP_LENGTH)


@functools.cache
def mel_filters(n_mels: int, n_fft: int = N_FFT, scale: Literal["slaney", "htk"] = "slaney") -> Tensor:
    """Triangular filters on a mel scale, float32 `[n_mels, n_fft // 2 + 1]`.

    Sources: Slaney 1998 (Auditory Toolbox): linear below 1 kHz, logarithmic above, unit area; the HTK book (Young et
    al. 2006): logarithmic, unit height.
    """
    hz_per_mel, knee_hz, log_step = 200 / 3, 1000.0, math.log(6.4) / 27
    knee_mel = knee_hz / hz_per_mel

    def to_mel(hz: float) -> float:
        if scale == "htk":
            return 2595 * math.log10(1 + hz / 700)
        return hz / hz_per_mel if hz < knee_hz else knee_mel + math.log(hz / knee_hz) / log_step

    mels = np.linspace(0.0, to_mel(SAMPLE_RATE / 2), n_mels + 2)
    if scale == "htk":
        edges = 700 * (10 ** (mels / 2595) - 1)
    else:
        edges = np.where(mels < knee_mel, mels * hz_per_mel, knee_hz * np.exp(log_step * (mels - knee_mel)))
    bins = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0, np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)))
    areas = (upper - lower) / 2 if scale == "slaney" else 1.0
    return torch.from_numpy((triangles / areas).astype(np.float32))


def log_mel(
    utterances: Sequence[npt.NDArray[np.float32] | Tensor],
    *,
    n_mels: int = 80,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Log-mel spectrograms of a batch of utterances.

    Each utterance is taken as followed by digital silence, so what it is batched with changes nothing.

    Arguments:
        utterances: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins.
        device: where the features are computed and left.

    Returns:
        features float32 `[B, n_mels, T]`, zero beyond each utterance's frames, and frame counts int64 `[B]`.

    Raises:
        ValueError: for an empty utterance.
    """
    waves = [torch.as_tensor(wave, dtype=torch.float32) for wave in utterances]
    if any(wave.numel() == 0 for wave in waves):
        raise ValueError("an utterance has no samples")
    lengths_B = torch.tensor([num_frames(len(wave)) for wave in waves], device=device)
    frames = int(lengths_B.max())
    half = N_FFT // 2
    batch = torch.zeros(len(waves), frames * HOP_LENGTH + N_FFT)
    for row, wave in zip(batch, waves, strict=True):
        row[half : half + len(wave)] = wave
        mirror = wave[1 : half + 1].flip(0)
        row[half - len(mirror) : half] = mirror
    batch = batch.to(device)
    window = torch.hann_window(N_FFT, device=device)
    spectrum = torch.stft(batch, N_FFT, HOP_LENGTH, window=window, center=False, return_complex=True)
    power = spectrum[..., :frames].abs().square()
    log_power = (mel_filters(n_mels).to(device) @ power).clamp(min=1e-10).log10()
    valid = torch.arange(frames, device=device) < lengths_B[:, None]
    log_power = log_power.masked_fill(~valid[:, None], -math.inf)
    floor = log_power.amax(dim=(1, 2), keepdim=True) - DYNAMIC_RANGE
    features = (torch.maximum(log_power, floor) + 4) / 4
    return features.masked_fill(~valid[:, None], 0.0), lengths_B
