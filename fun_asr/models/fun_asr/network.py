"""The whole network: encoder, CTC head and decoder."""

from __future__ import annotations

from torch import Tensor, nn

from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import Encoder
from fun_asr.models.fun_asr.config import ModelConfig
from fun_asr.models.fun_asr.ctc import CTCHead


class FunASR(nn.Module):
    """Encoder, CTC head and mixture-of-experts decoder under one configuration."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.ctc = CTCHead(config.ctc, config.encoder.dim, config.encoder.silence_frames)
        self.decoder = Decoder(config.decoder, self.encoder.silence)

    def encode(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel `[B, M, T]`, any dtype, and frame counts to representations and their frame counts, as `Encoder`."""
        encoded: tuple[Tensor, Tensor] = self.encoder(features.to(self.encoder.norm.weight.dtype), lengths_B)
        return encoded
