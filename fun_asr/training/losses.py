"""The joint loss: the decoder's cross-entropy and CTC (Watanabe et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.model.encoder import length_mask
from fun_asr.model.fun_asr import FunASR
from fun_asr.training.data import IGNORED, Batch


@dataclass(frozen=True)
class Losses:
    """Mean losses of a batch, scalar tensors."""

    decoder: Tensor
    """Cross-entropy a token."""
    ctc: Tensor
    """CTC loss a token."""
    total: Tensor


def joint_loss(model: FunASR, batch: Batch, *, ctc_weight: float, label_smoothing: float = 0.0) -> Losses:
    """Decoder cross-entropy plus `ctc_weight` times CTC, each a mean over its target tokens."""
    encoded, lengths_B = model.encode(batch.features, batch.lengths_B)
    mask = length_mask(lengths_B, encoded.shape[1])
    hidden = model.decoder(batch.tokens_BS, encoded, mask)
    trained = batch.labels_BS != IGNORED
    # The vocabulary is wide: logits are computed only where there is a label.
    logits = model.decoder.embedding.logits(hidden[trained]).float()
    decoder = F.cross_entropy(logits, batch.labels_BS[trained], label_smoothing=label_smoothing)
    ctc = logits.new_zeros(())
    if ctc_weight and bool(batch.ctc_rows.any()):
        log_probs, ctc_lengths_B = model.ctc(encoded, lengths_B)
        rows = batch.ctc_rows
        labels = [label for label, row in zip(batch.ctc_labels, rows.tolist(), strict=True) if row]
        targets = torch.cat(labels)
        target_lengths = torch.tensor([len(label) for label in labels])
        blank = model.config.ctc.vocab_size - 1
        summed = F.ctc_loss(
            log_probs[rows].transpose(0, 1),
            targets.to(log_probs.device),
            ctc_lengths_B[rows],
            target_lengths,
            blank=blank,
            reduction="sum",
            zero_infinity=True,
        )
        ctc = summed / max(1, len(targets))
    return Losses(decoder, ctc, decoder + ctc_weight * ctc)
