"""Frames that stand for the silence after an utterance.

A model that was trained on windows of one length (Whisper, Radford et al. 2022) puts a part of its attention on the
silence that fills them, and says other things without it. A few frames with the weight of all give it that, at a
hundredth of the window's cost.

Shapes: B utterances, L frames (20 ms), those of silence included, R of silence, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Silence:
    """How many frames follow each utterance, and how many they stand for.

    Each is the one in the middle of its part of the rest of the window; attention takes it for as many as there are in
    that part.
    """

    frames: int
    """R, at least one."""
    window: int
    """Frames of the longest input."""

    def places(self, lengths_B: Tensor) -> Tensor:
        """Which frames of the window they are, int64 `[B, R]`, from the lengths with silence."""
        sound_B1 = (lengths_B - self.frames)[:, None]
        middles_R = 2 * torch.arange(self.frames, device=lengths_B.device) + 1
        places = sound_B1 + (self.window - sound_B1) * middles_R // (2 * self.frames)
        return places.clamp(max=self.window - 1)

    def bias(self, lengths_B: Tensor, frames: int) -> Tensor:
        """What attention adds to the scores of the frames, float32 `[B, L]`.

        That is 0 for those with sound, the logarithm of how many each frame of silence stands for, and minus infinity
        beyond.

        Arguments:
            lengths_B: frames of each utterance, those of silence included.
            frames: L.
        """
        sound_B1 = (lengths_B - self.frames)[:, None]
        place_L = torch.arange(frames, device=lengths_B.device)
        share_B1 = ((self.window - sound_B1).float() / self.frames).log()
        bias = torch.where(place_L < sound_B1, 0.0, share_B1)
        return bias.masked_fill(place_L >= lengths_B[:, None], -torch.inf)
