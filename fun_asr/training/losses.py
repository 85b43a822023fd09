"""The joint loss: the decoder's cross-entropy and CTC (Watanabe et al. 2017), and distillation (Hinton et al. 2015).

Shapes: N tokens, K of them kept by the teacher, V vocabulary, R utterances, L encoder frames (20 ms), D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.models.fun_asr.network import FunASR
from fun_asr.training.ctc_losses import head_loss
from fun_asr.training.data import IGNORED, Batch

LEAST_REST = 1e-5
"""Probability of the tokens that a teacher did not keep: below it, float32 has no sums."""


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
    frames: Tensor
    """Part of the variance of the teacher's encoder outputs that is missed."""
    tokens: Tensor
    """KL divergence from the teacher's next tokens."""
    total: Tensor
    encoded: Tensor
    """`[views * B, L, D]`."""
    encoded_lengths_B: Tensor


def joint_loss(
    model: FunASR,
    batch: Batch,
    *,
    ctc_weight: float,
    label_smoothing: float = 0.0,
    balance_weight: float = 0.0,
    z_weight: float = 0.0,
    frames_weight: float = 0.0,
    tokens_weight: float = 0.0,
    intermediate_weight: float = 0.0,
    consistency_weight: float = 0.0,
) -> Losses:
    """Decoder cross-entropy plus the weighted CTC, router and distillation losses, each a mean over its tokens."""
    encoded, lengths_B = model.encode(batch.features, batch.lengths_B)
    # Further views of the same utterances train the CTC head alone.
    memory, memory_lengths_B = encoded[: len(batch.tokens_BS)], lengths_B[: len(batch.tokens_BS)]
    mask = model.decoder.memory_mask(memory_lengths_B, memory.shape[1])
    trained = batch.labels_BS != IGNORED
    teaching = batch.teaching
    taught = torch.zeros_like(trained) if teaching is None else teaching.positions_BS
    asked = trained | taught
    decoder = ctc = balance = z = frames = tokens = encoded.new_zeros((), dtype=torch.float32)
    if teaching is not None:
        rows = teaching.rows_B
        sound_R = model.decoder.sound_frames(memory_lengths_B)[rows]
        frames = frames_loss(memory[rows, : teaching.frames_RLD.shape[1]], sound_R, teaching.frames_RLD)
    if bool(asked.any()):
        hidden = model.decoder(batch.tokens_BS, memory, mask, asked)
        observed = [router.losses for router in model.decoder.routers() if router.losses is not None]
        if observed:
            balance = torch.stack([losses.balance for losses in observed]).mean()
            z = torch.stack([losses.z for losses in observed]).mean()
        # The vocabulary is wide: logits are computed only where there is a label.
        logits = model.decoder.embedding.logits(hidden[asked]).float()
        if bool(trained.any()):
            labels_N = batch.labels_BS[asked]  # IGNORED where only the teacher was asked
            decoder = F.cross_entropy(logits, labels_N, ignore_index=IGNORED, label_smoothing=label_smoothing)
        if teaching is not None and bool(taught.any()):
            tokens = tokens_loss(logits[taught[asked]], teaching.ids_NK, teaching.log_probs_NK)
    if bool(batch.ctc_rows.any()):
        labels = [label for label, row in zip(batch.ctc_labels, batch.ctc_rows.tolist(), strict=True) if row]
        with torch.set_grad_enabled(torch.is_grad_enabled() and ctc_weight > 0):
            ctc = head_loss(
                model.ctc,
                encoded[batch.ctc_rows],
                lengths_B[batch.ctc_rows],
                labels,
                intermediate_weight=intermediate_weight,
                consistency_weight=consistency_weight,
                views=batch.views,
            )
    total = decoder + ctc_weight * ctc + balance_weight * balance + z_weight * z
    total = total + frames_weight * frames + tokens_weight * tokens
    return Losses(decoder, ctc, balance, z, frames, tokens, total, encoded, lengths_B)


def frames_loss(encoded_RLD: Tensor, lengths_R: Tensor, frames_RLD: Tensor) -> Tensor:
    """Mean squared error of the valid frames, each channel by the teacher's variance in it, so that all count alike."""
    valid = torch.arange(encoded_RLD.shape[1], device=encoded_RLD.device) < lengths_R[:, None]
    heard, wanted = encoded_RLD[valid].float(), frames_RLD[valid].float()
    variance_D = wanted.var(dim=0, correction=0)
    # A channel in which a short batch hardly moves must not outweigh all others.
    variance_D = variance_D.clamp(min=0.01 * float(variance_D.mean()))
    return ((heard - wanted).square().mean(dim=0) / variance_D).mean()


def tokens_loss(logits_NV: Tensor, ids_NK: Tensor, log_probs_NK: Tensor) -> Tensor:
    """KL divergence from the teacher's next tokens, in nats; those that it did not keep count as one."""
    kept_NK = logits_NV.log_softmax(dim=-1).gather(1, ids_NK)
    probs_NK = log_probs_NK.exp()
    rest_N = (1 - probs_NK.sum(dim=1)).clamp(min=LEAST_REST)
    own_rest_N = (1 - kept_NK.exp().sum(dim=1)).clamp(min=LEAST_REST)
    kept_N = (probs_NK * (log_probs_NK - kept_NK)).sum(dim=1)
    return (kept_N + rest_N * (rest_N.log() - own_rest_N.log())).mean()
