"""From a batch of segments to encoder frames and the CTC head's probabilities.

Shapes: B segments, M log-mel bands, T frames of them (10 ms), L encoder frames (20 ms), D width, J CTC frames,
C the CTC head's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fun_asr.audio.features import log_mel
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.models.runs import encoder_runs, of_few_lengths

__all__ = ["Encoded", "FrontEnd", "SegmentEncoder"]

FRAMES_APART = 32  # log-mel frames by which lengths of runs differ at least

FrontEnd = Callable[[Sequence[npt.NDArray[np.float32]]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Encoded:
    """Segments after the encoder and the CTC head."""

    segments: Sequence[AudioSegment]
    encoded: Tensor
    """`[B, L, D]`."""
    lengths_B: Tensor
    """Encoder frames of each segment, int64."""
    log_probs: Tensor
    """The CTC head's, `[B, J, C]`."""
    ctc_lengths_B: Tensor
    """CTC frames of each segment, int64."""

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def ctc_frames(self) -> list[Tensor]:
        """The log-probabilities of each segment without padding, `[J, C]`."""
        return [row[:length] for row, length in zip(self.log_probs, self.ctc_lengths_B.tolist(), strict=True)]

    def only(self, places: Sequence[int]) -> Encoded:
        """The segments in `places`, at least one, padded to the longest of them."""
        if len(places) == len(self):
            return self
        rows = torch.tensor(places, device=self.encoded.device)
        lengths_B = self.lengths_B[rows]
        return Encoded(
            segments=[self.segments[b] for b in places],
            encoded=self.encoded[rows, : int(lengths_B.max())],
            lengths_B=lengths_B,
            log_probs=self.log_probs[rows],
            ctc_lengths_B=self.ctc_lengths_B[rows],
        )


class SegmentEncoder:
    """Runs a model's encoder and CTC head.

    Arguments:
        network: the model.
        device: the network's.
        front_end: computes what the encoder reads of a batch of waveforms: features `[B, M, T]` and the frames of each,
            int64 `[B]`; None is `log_mel`.
    """

    def __init__(self, network: FunASR, device: torch.device, front_end: FrontEnd | None = None) -> None:
        self._network = network
        self._device = device
        self._front_end = front_end or partial(log_mel, n_mels=network.config.encoder.n_mels, device=device)

    @torch.inference_mode()
    def __call__(self, segments: Sequence[AudioSegment]) -> Encoded:
        """Run the encoder and the CTC head over segments, at least one."""
        heard: dict[int, tuple[Tensor, Tensor]] = {}  # [L, D] and [J, C] of each segment
        for places in encoder_runs({b: len(segment.samples) for b, segment in enumerate(segments)}, self._device):
            features, lengths_B = self._front_end([segments[b].samples for b in places])  # [B, M, T]
            most = 2 * self._network.config.encoder.max_frames
            features = of_few_lengths(features, FRAMES_APART, dim=2, most=most)
            encoded, lengths_B = self._network.encode(features, lengths_B)
            log_probs, ctc_lengths_B = self._network.ctc(encoded, lengths_B)
            lengths = zip(lengths_B.tolist(), ctc_lengths_B.tolist(), strict=True)
            for row, (b, (length, ctc_length)) in enumerate(zip(places, lengths, strict=True)):
                heard[b] = encoded[row, :length], log_probs[row, :ctc_length]
        encoded_B, log_probs_B = ([heard[b][part] for b in range(len(segments))] for part in (0, 1))
        return Encoded(
            segments,
            pad_sequence(encoded_B, batch_first=True),
            torch.tensor([len(frames) for frames in encoded_B], device=self._device),
            pad_sequence(log_probs_B, batch_first=True),
            torch.tensor([len(frames) for frames in log_probs_B], device=self._device),
        )
