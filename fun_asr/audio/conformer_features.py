"""Front ends of published conformers: each utterance's features are the same alone and in a batch.

Shapes: B utterances, T frames, M mel bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.features import HOP_LENGTH, mel_filters

__all__ = ["normalised_log_mel", "plain_log_mel", "stacked_log_mel"]

N_FFT = 512  # samples: 32 ms, of which the window covers 25 ms
WINDOW = 400
HALF = N_FFT // 2

Waves = Sequence[npt.NDArray[np.float32] | Tensor]


def _power(batch: Tensor, window: Tensor) -> Tensor:
    """Power spectra `[B, N_FFT // 2 + 1, T]` of rows that begin and end with half a transform of padding."""
    spectrum = torch.stft(
        batch, N_FFT, HOP_LENGTH, WINDOW, window=window.to(batch.device), center=False, return_complex=True
    )
    return spectrum.real.square() + spectrum.imag.square()


def _batch(waves: list[Tensor], frames: int, device: torch.device | str) -> Tensor:
    """The waves as rows with half a transform of silence before them, and silence up to `frames` frames."""
    batch = torch.zeros(len(waves), max((frames - 1) * HOP_LENGTH + N_FFT, HALF + max(map(len, waves))))
    for row, wave in zip(batch, waves, strict=True):
        row[HALF : HALF + len(wave)] = wave
    return batch.to(device)


def _valid(lengths_B: Tensor, frames: int) -> Tensor:
    return torch.arange(frames, device=lengths_B.device) < lengths_B[:, None]


def normalised_log_mel(
    utterances: Waves, *, n_mels: int = 80, preemphasis: float = 0.97, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """NeMo's features: pre-emphasis, log-mel, and each bin's mean and deviation over the utterance taken out.

    Arguments:
        utterances: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins.
        preemphasis: how much of the sample before is taken from each sample.
        device: where the features are computed and left.

    Returns:
        features float32 `[B, T, M]`, zero beyond each utterance's frames, and frame counts int64 `[B]`: one each whole
        10 ms, so that an utterance shorter than that has none.
    """
    waves = [torch.as_tensor(wave, dtype=torch.float32) for wave in utterances]
    waves = [torch.cat([wave[:1], wave[1:] - preemphasis * wave[:-1]]) for wave in waves]
    lengths_B = torch.tensor([len(wave) // HOP_LENGTH for wave in waves], device=device)
    frames = max(1, int(lengths_B.max()))
    power = _power(_batch(waves, frames, device), torch.hann_window(WINDOW, periodic=False))[..., :frames]
    log_power = (mel_filters(n_mels, N_FFT).to(device) @ power + 2**-24).log().transpose(1, 2)  # [B, T, M]
    valid = _valid(lengths_B, frames)[..., None]
    counts = lengths_B[:, None, None]
    mean = (log_power * valid).sum(dim=1, keepdim=True) / counts.clamp(min=1)
    centred = (log_power - mean) * valid
    variance = centred.square().sum(dim=1, keepdim=True) / (counts - 1).clamp(min=1)
    return centred / (variance.sqrt() + 1e-5), lengths_B


def plain_log_mel(
    utterance: npt.NDArray[np.float32] | Tensor,
    *,
    n_mels: int,
    preemphasis: float = 0.97,
    filters: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """NeMo's features of one utterance, not normalised: pre-emphasis and log-mel.

    Arguments:
        utterance: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins.
        preemphasis: how much of the sample before is taken from each sample.
        filters: what window and filters are rounded to, as they are stored beside a model.
        device: where the features are computed and left.

    Returns:
        features float32 `[T, M]`: a frame each whole 10 ms, so that a shorter utterance has none.
    """
    wave = torch.as_tensor(utterance, dtype=torch.float32)
    wave = torch.cat([wave[:1], wave[1:] - preemphasis * wave[:-1]])
    frames = len(wave) // HOP_LENGTH
    window = torch.hann_window(WINDOW, periodic=False).to(filters).float()
    power = _power(_batch([wave], max(1, frames), device), window)[0, :, :frames]
    weights = mel_filters(n_mels, N_FFT).to(filters).float().to(device)
    return (weights @ power + 2**-24).log().T


def stacked_log_mel(
    utterances: Waves, *, n_mels: int = 80, dynamic_range: float = 8.0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Granite's features: log-mel bins and their slopes, of two frames at once.

    Arguments:
        utterances: mono float32 `[samples]` at 16 kHz, in [-1, 1].
        n_mels: mel bins.
        dynamic_range: bins that are further below the loudest are floored, in log10.
        device: where the features are computed and left.

    Returns:
        features float32 `[B, T, 4 * M]` at 50 Hz, zero beyond each utterance's frames, and frame counts int64 `[B]`.
    """
    waves = [torch.as_tensor(wave, dtype=torch.float32) for wave in utterances]
    lengths = [-(-(len(wave) // HOP_LENGTH) // 2) for wave in waves]
    lengths_B = torch.tensor(lengths, device=device)
    frames = 2 * max(1, int(lengths_B.max()))
    # The last pair is filled with silence; then each end is mirrored, as if nothing else were in the batch.
    waves = [
        F.pad(wave, (0, max(0, (2 * length - 1) * HOP_LENGTH + 1 - len(wave))))
        for wave, length in zip(waves, lengths, strict=True)
    ]
    batch = torch.zeros(len(waves), max((frames - 1) * HOP_LENGTH + N_FFT, N_FFT + max(map(len, waves))))
    for row, wave in zip(batch, waves, strict=True):
        row[HALF : HALF + len(wave)] = wave
        before, after = wave[1 : HALF + 1].flip(0), wave[-HALF - 1 : -1].flip(0)
        row[HALF - len(before) : HALF] = before
        row[HALF + len(wave) : HALF + len(wave) + len(after)] = after
    power = _power(batch.to(device), torch.hann_window(WINDOW))[..., :frames]
    log_power = (mel_filters(n_mels, N_FFT, "htk").to(device) @ power).clamp(min=1e-10).log10().transpose(1, 2)
    valid = _valid(2 * lengths_B, frames)[..., None]
    loudest = log_power.masked_fill(~valid, -torch.inf).amax(dim=(1, 2), keepdim=True)
    levels = torch.maximum(log_power, loudest - dynamic_range) / 4 + 1  # [B, T, M]
    # An utterance's last frame goes on beyond its end, as its first one does before its start.
    last = levels.gather(1, (2 * lengths_B - 1).clamp(min=0)[:, None, None].expand(-1, 1, n_mels))
    levels = torch.where(valid, levels, last)
    slopes = (torch.cat([levels[:, 1:], levels[:, -1:]], 1) - torch.cat([levels[:, :1], levels[:, :-1]], 1)) / 2
    features = torch.cat([levels, slopes], dim=-1) * valid
    return features.reshape(len(waves), frames // 2, 4 * n_mels), lengths_B
