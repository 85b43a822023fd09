"""Losses of the CTC head: CTC itself, the same after its earlier blocks, and consistency of two views of an utterance.

Sources: Graves et al. 2006 (CTC), Lee & Watanabe 2021 (intermediate loss), Yao et al. 2024 (CR-CTC: two masked copies
of each spectrogram must give the same distribution at every frame, each learning from the other as it is).

Shapes: B utterances, L encoder frames (20 ms), J CTC frames, D width, C vocabulary, the blank last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.models.fun_asr.ctc import CTCHead


def head_loss(
    head: CTCHead,
    encoded: Tensor,
    lengths_B: Tensor,
    labels: Sequence[Tensor],
    *,
    intermediate_weight: float = 0.0,
    consistency_weight: float = 0.0,
    views: int = 1,
) -> Tensor:
    """The head's loss a token of encoder outputs `[B, L, D]` against one label vector an utterance.

    Arguments:
        head: the CTC head.
        encoded, lengths_B: the encoder's output.
        labels: int64, one vector an utterance; utterances with fewer frames than theirs need are left out.
        intermediate_weight: part of the CTC loss that is taken after the blocks before the last.
        consistency_weight: of the consistency of two views; 0.2 in the paper.
        views: 2 when the second half of the utterances are those of the first half, masked otherwise.
    """
    each, ctc_lengths_B = head.after_blocks(encoded, lengths_B)
    *earlier, log_probs = each
    blank = log_probs.shape[-1] - 1
    loss = ctc_loss_of(log_probs, ctc_lengths_B, labels, blank)
    if intermediate_weight and earlier:
        before = torch.stack([ctc_loss_of(x, ctc_lengths_B, labels, blank) for x in earlier]).mean()
        loss = (1 - intermediate_weight) * loss + intermediate_weight * before
    if consistency_weight and views == 2:
        half = len(labels) // 2
        distance = consistency(log_probs[:half], log_probs[half:], ctc_lengths_B[:half])
        # As CTC, which is a sum over the frames: a token of one view.
        loss = loss + consistency_weight * distance / max(1, sum(len(label) for label in labels[:half]))
    return loss


def ctc_loss_of(log_probs: Tensor, lengths_B: Tensor, labels: Sequence[Tensor], blank: int) -> Tensor:
    """CTC loss a token of log-probabilities `[B, J, C]`, float32.

    Utterances with fewer frames than their labels need are left out.
    """
    targets = torch.cat(list(labels))
    summed = F.ctc_loss(
        log_probs.transpose(0, 1),
        targets.to(log_probs.device),
        lengths_B,
        torch.tensor([len(label) for label in labels]),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )
    return summed / max(1, len(targets))


def consistency(one: Tensor, other: Tensor, lengths_B: Tensor) -> Tensor:
    """How far two views of the same utterances are from each other: a sum over their frames, in nats.

    That is the mean of the KL divergences of each from the other, where the one that is learnt from is held still.

    Arguments:
        one, other: log-probabilities `[B, J, C]`.
        lengths_B: valid frames of each utterance.
    """
    valid_BJ = torch.arange(one.shape[1], device=one.device) < lengths_B[:, None]
    a, b = one[valid_BJ], other[valid_BJ]
    to_b = F.kl_div(a, b.detach(), reduction="sum", log_target=True)
    to_a = F.kl_div(b, a.detach(), reduction="sum", log_target=True)
    return (to_a + to_b) / 2
