"""Fun-ASR-Nano's network (An et al. 2025, arXiv 2509.12508). Shapes: B utterances, L frames of 60 ms, D width."""

from __future__ import annotations

from torch import Tensor, nn

from fun_asr.layers.attention import length_mask
from fun_asr.layers.causal_lm import CausalLM
from fun_asr.layers.sanm import SANMBlock, SANMEncoder
from fun_asr.models.fun_asr_nano.config import AdaptorConfig, NanoConfig

__all__ = ["Adaptor", "Nano"]


class Adaptor(nn.Module):
    """Frames to vectors of another width that know of each other."""

    def __init__(self, config: AdaptorConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.in_dim, config.hidden_dim)
        self.down = nn.Linear(config.hidden_dim, config.dim)
        self.blocks = nn.ModuleList(
            SANMBlock(config.dim, config.num_heads, config.ffn_dim, eps=config.eps) for _ in range(config.num_layers)
        )

    def forward(self, encoded: Tensor, lengths_B: Tensor) -> Tensor:
        """`[B, L, in_dim]` to `[B, L, D]`."""
        x: Tensor = self.down(self.up(encoded).relu())
        mask = length_mask(lengths_B, x.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return x


class Nano(nn.Module):
    """A speech encoder, what makes its frames vectors of the language model, that model, and a CTC branch."""

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SANMEncoder(config.encoder)
        self.adaptor = Adaptor(config.adaptor)
        self.language_model = CausalLM(config.language_model)
        self.ctc_adaptor = None if config.ctc is None else Adaptor(config.ctc.adaptor)
        self.ctc_head = None if config.ctc is None else nn.Linear(config.ctc.adaptor.dim, config.ctc.vocab_size)

    def ctc_logits(self, encoded: Tensor, lengths_B: Tensor) -> Tensor:
        """Of the CTC branch, which must be there, `[B, L, C]`."""
        assert self.ctc_adaptor is not None and self.ctc_head is not None
        logits: Tensor = self.ctc_head(self.ctc_adaptor(encoded, lengths_B))
        return logits
