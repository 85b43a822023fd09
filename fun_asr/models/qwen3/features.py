"""What Qwen's speech encoder reads: 128 mel bins of a clip as it is, without silence up to a fixed length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.features import DYNAMIC_RANGE, HOP_LENGTH, N_FFT, mel_filters

__all__ = ["clip_log_mel"]

SHORTEST = 8000  # samples: shorter clips are followed by digital silence, which counts as sound


def clip_log_mel(
    samples: npt.NDArray[np.float32] | Tensor, *, n_mels: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Log-mel spectrogram of one clip (Radford et al. 2022, section 2.2).

    Both ends are mirrored, and what is left over after the last whole 10 ms has no frame.

    Arguments:
        samples: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins.
        device: where the features are computed and left.

    Returns:
        float32 `[n_mels, T]`, T = 50 or more.
    """
    wave = torch.as_tensor(samples, dtype=torch.float32)
    wave = F.pad(wave, (0, max(0, SHORTEST - len(wave)))).to(device)
    window = torch.hann_window(N_FFT, device=device)
    spectrum = torch.stft(wave, N_FFT, HOP_LENGTH, window=window, center=True, return_complex=True)
    power = spectrum[:, : len(wave) // HOP_LENGTH].abs().square()
    log_power = (mel_filters(n_mels).to(device) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(log_power, log_power.amax() - DYNAMIC_RANGE) + 4) / 4
