"""The network: Whisper's encoder and decoder, which are those of `fun_asr.layers` without what was added to them."""

from __future__ import annotations

from torch import Tensor, nn

from fun_asr.layers.decoder import Decoder
from fun_asr.layers.encoder import Encoder
from fun_asr.models.whisper.config import WhisperConfig


class Whisper(nn.Module):
    """Encoder and decoder under one configuration."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.decoder = Decoder(config.decoder)

    def encode(self, features: Tensor, lengths_B: Tensor) -> Tensor:
        """Log-mel `[B, M, T]`, any dtype, all of it counting: Whisper hears the padding too; to `[B, T / 2, D]`."""
        encoded, _ = self.encoder(features.to(self.encoder.norm.weight.dtype), lengths_B)
        return encoded  # type: ignore[no-any-return]
