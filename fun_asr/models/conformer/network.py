"""The FastConformer (Rekesh et al. 2023), its CTC head, and transducers (Graves 2012; Xu et al. 2023 for durations).

Shapes: B utterances, T feature frames (10 ms), M mel bins, L encoder frames, D width, V vocabulary with the blank,
P width of the prediction network.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fun_asr.layers.attention import length_mask
from fun_asr.layers.conformer import ConformerBlock, ConvolutionModule, Subsampling
from fun_asr.layers.relative_attention import RelativeAttention
from fun_asr.models.conformer.config import ConformerConfig, EncoderConfig

__all__ = ["Conformer", "Encoder", "Transducer"]


class Encoder(nn.Module):
    """Features `[B, T, M]` to `[B, L, D]`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.scale = math.sqrt(config.dim) if config.scale_input else 1.0
        self.subsampling = Subsampling(config.n_mels, config.channels, config.dim, config.halvings)
        self.layers = nn.ModuleList(
            ConformerBlock(
                config.dim,
                RelativeAttention(config.dim, config.num_heads, bias=config.bias, band=config.band),
                ConvolutionModule(
                    config.dim, config.dim, config.conv_kernel, bias=config.conv_bias, depthwise_bias=config.conv_bias
                ),
                config.ffn_dim,
                bias=config.bias,
            )
            for _ in range(config.num_layers)
        )

    def forward(self, features: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features that are zero beyond each utterance's frames; returns frames and how many count."""
        x, lengths_B = self.subsampling(features.to(self.subsampling.first.weight.dtype), lengths_B)
        x = x * self.scale
        mask = length_mask(lengths_B, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return x, lengths_B


class LSTMLayer(nn.Module):
    """One step of a long short-term memory, all gates in one product."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * dim, 4 * dim)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        gate_in, gate_forget, update, gate_out = self.gates(torch.cat([x, hidden], dim=-1)).chunk(4, dim=-1)
        cell = gate_forget.sigmoid() * cell + gate_in.sigmoid() * update.tanh()
        return gate_out.sigmoid() * cell.tanh(), cell


State = tuple[Tensor, Tensor]
"""Hidden and cell values of all layers, `[B, layers, P]` each."""


class Transducer(nn.Module):
    """Prediction network and joint: what follows a text, given an encoder frame."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        dim = config.prediction_dim
        self.encoder_projection = nn.Linear(config.encoder.dim, dim)
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.lstm = nn.ModuleList(LSTMLayer(dim) for _ in range(config.prediction_layers))
        self.prediction_projection = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, config.vocab_size + len(config.durations))

    def start(self, rows: int) -> State:
        """The state before any token."""
        weight = self.embedding.weight
        shape = (rows, len(self.lstm), weight.shape[1])
        return torch.zeros(shape, device=weight.device, dtype=weight.dtype), torch.zeros(
            shape, device=weight.device, dtype=weight.dtype
        )

    def predict(self, tokens_B: Tensor, state: State) -> tuple[Tensor, State]:
        """One more token of each text; returns what the joint takes of it, `[B, P]`, and the state."""
        x, hidden, cell = self.embedding(tokens_B), [], []
        for number, layer in enumerate(self.lstm):
            x, c = layer(x, state[0][:, number], state[1][:, number])
            hidden.append(x)
            cell.append(c)
        return self.prediction_projection(x), (torch.stack(hidden, 1), torch.stack(cell, 1))

    def joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits of the tokens, and of the durations after them, from projections of the same shape `[..., P]`."""
        return self.head(F.relu(encoded + predicted))  # type: ignore[no-any-return]


class Conformer(nn.Module):
    """Encoder with a CTC head, a transducer, or both."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.ctc_head = nn.Linear(config.encoder.dim, config.vocab_size) if config.ctc else None
        self.transducer = None if config.kind == "ctc" else Transducer(config)
