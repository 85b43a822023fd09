"""Where somebody speaks: the probability of speech in every 32 ms, by the network of Silero VAD (Silero Team, 2024).

Its weights, MIT licensed, lie in the model directory. Written as matrix products over many windows at once with one
run of the recurrent layer over their sequence, an hour costs a fraction of what a call a window costs.

Shapes: W windows of 512 samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.errors import CheckpointError

__all__ = [
    "CONTEXT",
    "WINDOW",
    "WINDOWS_PER_SECOND",
    "SpeechDetector",
    "State",
    "load_speech_detector",
    "speech_probabilities",
]

WINDOW = 512  # samples = 32 ms
WINDOWS_PER_SECOND = SAMPLE_RATE / WINDOW  # 31.25
CONTEXT = 64  # samples of the window before that are seen again
WINDOWS_AT_ONCE = 512  # 16.4 s

Samples = npt.NDArray[np.float32]
State = tuple[Tensor, Tensor]


class SpeechDetector(nn.Module):
    """Windows of samples to probabilities of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.encoder = nn.Sequential(
            nn.Conv1d(129, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(128, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(64, 128, 3, padding=1),
            nn.ReLU(),
        )
        self.memory = nn.LSTM(128, 128)
        self.output = nn.Linear(128, 1)

    def forward(self, windows: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Probabilities `[W]` and the state after the last window.

        Arguments:
            windows: consecutive windows `[W, 64 + 512]`, each after the last 64 samples of the one before.
            state: that after the window before the first; None at the start of a recording.
        """
        spectrum = self.stft(F.pad(windows[:, None], (0, CONTEXT), mode="reflect"))
        real, imaginary = spectrum.chunk(2, dim=1)
        encoded: Tensor = self.encoder((real.square() + imaginary.square()).sqrt())  # [W, 128, 1]
        hidden, state = self.memory(encoded.squeeze(-1), state)
        return self.output(hidden.relu()).sigmoid().squeeze(-1), state


def load_speech_detector(path: Path) -> SpeechDetector | None:
    """The detector in a safetensors file; None where there is no such file.

    Raises:
        CheckpointError: when the file is damaged.
    """
    if not path.exists():
        return None
    detector = SpeechDetector()
    try:
        detector.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    return detector.eval()


@torch.inference_mode()
def speech_probabilities(
    detector: SpeechDetector, blocks: Iterable[Samples]
) -> Iterator[tuple[Samples, npt.NDArray[np.float32]]]:
    """A stream with the probability of speech in each of its windows.

    Arguments:
        detector: the network.
        blocks: consecutive pieces of mono 16 kHz audio, float32 `[samples]`, of any lengths.

    Returns:
        an iterator over pieces `[samples]` of at most 16.4 s and the probabilities `[W]` of their windows. All pieces
        but the last are whole windows; the last window of the last one may be shorter.
    """
    size = WINDOWS_AT_ONCE * WINDOW
    context = np.zeros(CONTEXT, np.float32)
    state: State | None = None
    for piece in _pieces(blocks, size):
        count = -(-len(piece) // WINDOW)
        padded = np.concatenate([context, piece, np.zeros(count * WINDOW - len(piece), np.float32)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + WINDOW)[::WINDOW]
        probabilities, state = detector(torch.tensor(windows), state)
        context = padded[-CONTEXT:]
        yield piece, probabilities.numpy()


def _pieces(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """The stream in pieces of `size` samples, the last one shorter."""
    held: list[Samples] = []
    missing = size
    for block in blocks:
        if block.ndim != 1:
            raise ValueError(f"need mono samples of shape [samples], not {block.shape}")
        while len(block) >= missing:
            yield np.concatenate([*held, block[:missing]])
            block = block[missing:]
            held, missing = [], size
        if len(block):
            held.append(block)
            missing -= len(block)
    if held:
        yield np.concatenate(held)
