"""Error rates of a model in training on development sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fun_asr.scoring.texts import wer
from fun_asr.training.acoustics import Wave
from fun_asr.training.data import Utterance, WaveReader
from fun_asr.training.processes import Processes

__all__ = ["evaluate"]

BATCH = 16

Recognise = Callable[[Sequence[Wave], Sequence[str]], dict[str, list[str]]]


@torch.inference_mode()
def evaluate(
    recognise: Recognise, utterances: Sequence[Utterance], reader: WaveReader, processes: Processes | None = None
) -> dict[str, float]:
    """Recognise utterances and score them.

    Arguments:
        recognise: from waves and languages to texts by the name of their rate, in evaluation mode.
        utterances: in their languages.
        reader: reads them, without augmentation; what it cannot read is left out.
        processes: share the utterances; None for this one alone.

    Returns:
        WER in percent, after Whisper's English normaliser, by those names.

    Raises:
        ScoringError: when nothing that could be read has a word.
    """
    processes = processes or Processes()
    rows: list[tuple[str, dict[str, str]]] = []
    ordered = sorted(utterances, key=lambda u: u.duration)[processes.rank :: processes.count]
    for start in range(0, len(ordered), BATCH):
        # Only what is left belongs to the hypotheses, place by place.
        kept, waves = reader.read(ordered[start : start + BATCH], np.random.default_rng(0))
        if not kept:
            continue
        found = recognise(waves, [utterance.language for utterance in kept])
        for place, utterance in enumerate(kept):
            rows.append((utterance.text or utterance.written, {name: texts[place] for name, texts in found.items()}))
    rows = processes.gathered(rows)
    references = [reference for reference, _ in rows]
    return {
        name: 100 * wer(references, [texts[name] for _, texts in rows], normalizer="english").error_rate
        for name in (rows[0][1] if rows else ("wer",))
    }
