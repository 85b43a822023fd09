"""Extra CTC-head updates on encoder outputs kept from recent steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.layers.encoder import ENCODER_FRAMES_PER_SECOND
from fun_asr.models.fun_asr.ctc import CTCHead
from fun_asr.training.ctc_losses import head_loss
from fun_asr.training.data import Batch
from fun_asr.training.losses import Losses

MASK_FRAMES = 12


class EncodedReplay:
    """The encoder outputs of the last `capacity` batches, in float16 on the CPU.

    The CTC head starts at random while the rest of the network comes trained, and it costs a twentieth of a whole step:
    more updates of the head alone are cheap.
    """

    def __init__(self, capacity: int, dropout: float) -> None:
        self.dropout = dropout
        self._kept: deque[tuple[Tensor, Tensor, list[Tensor]]] = deque(maxlen=capacity)

    def __len__(self) -> int:
        """Batches kept."""
        return len(self._kept)

    def add(self, batch: Batch, losses: Losses) -> None:
        """Keep a step's encoder output and CTC labels."""
        rows = batch.ctc_rows
        if not bool(rows.any()):
            return
        labels = [label for label, row in zip(batch.ctc_labels, rows.tolist(), strict=True) if row]
        encoded = losses.encoded.detach()[rows].to("cpu", torch.float16)
        self._kept.append((encoded, losses.encoded_lengths_B[rows].cpu(), labels))

    def loss(self, head: CTCHead, device: torch.device, rng: np.random.Generator) -> Tensor:
        """The head's loss on one kept batch, drawn by `rng`, with dropout and a masked span in every second or so.

        Without both, a head that sees a batch several times soon knows it by heart.
        """
        encoded, lengths_B, labels = self._kept[int(rng.integers(len(self._kept)))]
        x = F.dropout(encoded.to(device, torch.float32), self.dropout)
        for row in x:
            for _ in range(x.shape[1] // ENCODER_FRAMES_PER_SECOND):
                start = int(rng.integers(x.shape[1]))
                row[start : start + int(rng.integers(MASK_FRAMES + 1))] = 0
        return head_loss(head, x, lengths_B.to(device), labels)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything kept, as named tensors."""
        state: dict[str, Tensor] = {}
        for i, (encoded, lengths_B, labels) in enumerate(self._kept):
            state[f"{i}.encoded"] = encoded.contiguous()
            state[f"{i}.lengths"] = lengths_B
            state[f"{i}.label_lengths"] = torch.tensor([len(label) for label in labels])
            state[f"{i}.labels"] = torch.cat(labels)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._kept.clear()
        for i in range(len(state) // 4):
            labels = state[f"{i}.labels"].split(state[f"{i}.label_lengths"].tolist())
            self._kept.append((state[f"{i}.encoded"], state[f"{i}.lengths"], list(labels)))
