"""The joint loss: the decoder's cross-entropy and CTC (Watanabe et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.layers.attention import length_mask
from fun_asr.models.fun_asr.ctc import CTCHead
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.training.data import IGNORED, Batch


@dataclass(frozen=True)
class Losses:
    """Mean losses of a batch, scalar tensors, and the encoder's output they come from."""

    decoder: Tensor
    """Cross-entropy a token."""
    ctc: Tensor
    """CTC loss a token."""
    balance: Tensor
    """Load-balancing loss, a mean over the routers."""
    z: Tensor
    """Router z-loss, likewise."""
    total: Tensor
    encoded: Tensor
    """`[B, L, D]`."""
    encoded_lengths_B: Tensor


def joint_loss(
    model: FunASR,
    batch: Batch,
    *,
    ctc_weight: float,
    label_smoothing: float = 0.0,
    balance_weight: float = 0.0,
    z_weight: float = 0.0,
) -> Losses:
    """Decoder cross-entropy plus the weighted CTC and router losses, each a mean over its tokens."""
    encoded, lengths_B = model.encode(batch.features, batch.lengths_B)
    mask = length_mask(lengths_B, encoded.shape[1])
    trained = batch.labels_BS != IGNORED
    decoder = ctc = balance = z = encoded.new_zeros((), dtype=torch.float32)
    if bool(trained.any()):
        hidden = model.decoder(batch.tokens_BS, encoded, mask, trained)
        observed = [router.losses for router in model.decoder.routers() if router.losses is not None]
        if observed:
            balance = torch.stack([losses.balance for losses in observed]).mean()
            z = torch.stack([losses.z for losses in observed]).mean()
        # The vocabulary is wide: logits are computed only where there is a label.
        logits = model.decoder.embedding.logits(hidden[trained]).float()
        decoder = F.cross_entropy(logits, batch.labels_BS[trained], label_smoothing=label_smoothing)
    if bool(batch.ctc_rows.any()):
        labels = [label for label, row in zip(batch.ctc_labels, batch.ctc_rows.tolist(), strict=True) if row]
        with torch.set_grad_enabled(torch.is_grad_enabled() and ctc_weight > 0):
            ctc = ctc_loss(model.ctc, encoded[batch.ctc_rows], lengths_B[batch.ctc_rows], labels)
    total = decoder + ctc_weight * ctc + balance_weight * balance + z_weight * z
    return Losses(decoder, ctc, balance, z, total, encoded, lengths_B)


def ctc_loss(head: CTCHead, encoded: Tensor, lengths_B: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """CTC loss a token of encoder outputs `[B, L, D]` against one label vector an utterance.

    Utterances with fewer frames than their labels need are left out.
    """
    log_probs, ctc_lengths_B = head(encoded, lengths_B)
    targets = torch.cat(list(labels))
    summed = F.ctc_loss(
        log_probs.transpose(0, 1),
        targets.to(log_probs.device),
        ctc_lengths_B,
        torch.tensor([len(label) for label in labels]),
        blank=log_probs.shape[-1] - 1,
        reduction="sum",
        zero_infinity=True,
    )
    return summed / max(1, len(targets))
