"""Error rates of a model in training on development sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from fun_asr.audio.features import log_mel
from fun_asr.decoding import ctc
from fun_asr.decoding.generate import generate
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.scoring.texts import wer
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.data import Collator, Utterance

BATCH = 16


class DevScore(NamedTuple):
    """WER in percent, after Whisper's English normaliser."""

    wer: float
    """Of greedy decoding."""
    ctc_wer: float
    """Of the CTC head alone."""


@torch.inference_mode()
def evaluate(
    model: FunASR,
    utterances: Sequence[Utterance],
    collate: Collator,
    tokenizer: Tokenizer,
    ctc_tokenizer: CTCTokenizer,
    device: torch.device,
) -> DevScore:
    """Recognise utterances and score them.

    Arguments:
        model: in evaluation mode.
        utterances: in their languages.
        collate: reads them, without augmentation; what it cannot read is left out.
        tokenizer, ctc_tokenizer: the decoder's and the CTC head's.
        device: the model's.

    Raises:
        ScoringError: when nothing that could be read has a word.
    """
    references, written, spoken = [], [], []
    ordered = sorted(utterances, key=lambda u: u.duration)
    for start in range(0, len(ordered), BATCH):
        # Only what is left belongs to the hypotheses, place by place.
        rows, waves = collate.read(ordered[start : start + BATCH], np.random.default_rng(0))
        if not rows:
            continue
        encoded, lengths_B = model.encode(*log_mel(waves, n_mels=collate.n_mels, device=device))
        hypotheses = generate(model.decoder, encoded, lengths_B, tokenizer, [u.language for u in rows])
        log_probs, ctc_lengths_B = model.ctc(encoded, lengths_B)
        tokens = ctc.greedy(log_probs, ctc_lengths_B, ctc_tokenizer.blank)
        references += [u.text or u.written for u in rows]
        written += [tokenizer.decode(h.tokens) for h in hypotheses]
        spoken += [ctc_tokenizer.decode(t) for t in tokens]
    return DevScore(*(100 * wer(references, texts, normalizer="english").error_rate for texts in (written, spoken)))
