"""SenseVoiceSmall (An et al. 2024, arXiv 2407.04051). Shapes: B utterances, L frames, D width, C vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fun_asr.layers.sanm import SANMEncoder
from fun_asr.models.sense_voice.config import NUM_QUERIES, NUM_ROWS, SenseVoiceConfig

__all__ = ["SenseVoice"]


class SenseVoice(nn.Module):
    """Queries and stacked filter banks to frames of the CTC head."""

    def __init__(self, config: SenseVoiceConfig) -> None:
        super().__init__()
        self.config = config
        self.queries = nn.Embedding(NUM_ROWS, config.encoder.in_dim)
        self.encoder = SANMEncoder(config.encoder)
        self.ctc_head = nn.Linear(config.encoder.dim, config.vocab_size)

    def encode(self, features: Tensor, lengths_B: Tensor, rows: Tensor) -> Tensor:
        """Encode speech with what is asked of it.

        Arguments:
            features: `[B, L, in_dim]`, zero beyond each utterance's frames.
            lengths_B: valid frames, int64 `[B]`.
            rows: of the queries, int64 `[B, 4]`.

        Returns:
            `[B, 4 + L, D]`: the answers, then the speech.
        """
        asked = self.queries(rows).to(features.dtype)
        encoded: Tensor = self.encoder(torch.cat([asked, features], dim=1), lengths_B + NUM_QUERIES)
        return encoded
