"""Kaldi's filter banks at a low frame rate, the front end of SAN-M models (Povey et al. 2011; Gao et al. 2020).

Shapes: B utterances, T frames of 10 ms, L stacked frames, M mel bins, K frames in a stack.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fun_asr.audio.decode import SAMPLE_RATE

__all__ = ["FRAME", "STRIDE", "stacked_fbank"]

WINDOW = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
N_FFT = 512
PREEMPHASIS = 0.97
LOWEST_HZ = 20
FULL_SCALE = 2**15  # Kaldi reads 16-bit integers
SMALLEST = torch.finfo(torch.float32).eps  # of what a logarithm is taken
STACKED, STRIDE = 7, 6
FRAME = STRIDE * HOP  # samples between two stacked frames: 60 ms
FRAMES_AT_ONCE = 12_000  # 10 ms each: the spectra of two minutes take 25 MB

Waves = Sequence[npt.NDArray[np.float32] | Tensor]


@functools.cache
def _filters(n_mels: int) -> Tensor:
    """Triangles of unit height that are straight lines on the mel scale, float32 `[N_FFT // 2 + 1, M]`."""

    def to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127 * np.log1p(hz / 700)

    low, high = to_mel(np.array([LOWEST_HZ, SAMPLE_RATE / 2]))
    edges = np.linspace(low, high, n_mels + 2)
    mels = to_mel(np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mels - lower) / (centre - lower), (upper - mels) / (upper - centre)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def _fbank(frames: Tensor, n_mels: int) -> Tensor:
    """Windows of samples `[T, WINDOW]` to logarithms of mel energies `[T, M]`."""
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    window = torch.hamming_window(WINDOW, periodic=False, device=frames.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=N_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    energies: Tensor = power @ _filters(n_mels).to(frames.device)
    return energies.clamp(min=SMALLEST).log()


def stacked_fbank(
    utterances: Waves, *, n_mels: int = 80, stacked: int = STACKED, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Log mel energies without dither, several frames in one, each utterance as if it were alone.

    Arguments:
        utterances: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins M.
        stacked: frames K in a stack; the first and the last frame of an utterance go on beyond it.
        device: where the features are computed and left.

    Returns:
        features float32 `[B, L, K * M]` every 60 ms, zero beyond each utterance's frames, and frame counts int64 `[B]`;
        an utterance shorter than 25 ms is filled with silence.
    """
    windows: list[Tensor] = []
    for wave in utterances:
        samples = torch.as_tensor(wave, dtype=torch.float32) * FULL_SCALE
        if len(samples) < WINDOW:
            samples = torch.nn.functional.pad(samples, (0, WINDOW - len(samples)))
        windows.append(samples.unfold(0, WINDOW, HOP))
    counts = [len(frames) for frames in windows]
    # Frames know nothing of each other until they are stacked: those of all utterances run together, without padding.
    parts = torch.cat(windows).split(FRAMES_AT_ONCE)
    energies = torch.cat([_fbank(part.to(device), n_mels) for part in parts])  # [T of all, M]
    lengths = [-(-count // STRIDE) for count in counts]
    features = energies.new_zeros(len(counts), max(lengths), stacked * n_mels)
    offsets = torch.arange(stacked, device=energies.device) - (stacked - 1) // 2
    for row, frames, length in zip(features, energies.split(counts), lengths, strict=True):
        places = STRIDE * torch.arange(length, device=energies.device)[:, None] + offsets
        row[:length] = frames[places.clamp(0, len(frames) - 1)].flatten(1)
    return features, torch.tensor(lengths, device=energies.device)
