"""What the decoder and CTC say of the words of clips, for the scripts that fit and measure thresholds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import torch

from fun_asr.audio.features import log_mel
from fun_asr.decoding import ctc
from fun_asr.decoding.generate import GenerateOptions, generate
from fun_asr.decoding.guard import cut_loops
from fun_asr.decoding.language_model import NGramModel
from fun_asr.decoding.rescore import best_hypothesis
from fun_asr.decoding.words import AlignedWord, WrittenWord, time_words, written_words
from fun_asr.models.fun_asr.load import load_network
from fun_asr.recogniser import BEAM_MARGIN, DEFAULT_BEAM
from fun_asr.text.spoken import spoken_form
from fun_asr.text.tokenizer import CTCTokenizer, Tokenizer
from fun_asr.training.data import Utterance, load_wave, read_manifest
from fun_asr.weights.directory import CTC_LANGUAGE_MODEL_FILE, CTC_TOKENIZER_FILE, TOKENIZER_FILE
from fun_asr.weights.precision import resolve_compute_type, resolve_device

BATCH = 16


@dataclass(frozen=True)
class Evidence:
    """One clip, recognised."""

    reference: str
    samples: npt.NDArray[np.float32]
    ctc_log_probs: npt.NDArray[np.float32]
    """`[J, C]`."""
    words: list[AlignedWord]
    """The decoder's."""
    ctc_words: list[AlignedWord]
    """Those of CTC alone."""
    looped: bool


def load_utterances(manifests: Sequence[Path], limit: int) -> list[Utterance]:
    """`limit` evenly spread utterances of each manifest, all of them for 0."""
    chosen = []
    for manifest in manifests:
        rows = read_manifest(manifest)
        count = min(limit, len(rows)) if limit else len(rows)
        chosen += [rows[i * len(rows) // count] for i in range(count)]
    return chosen


@torch.inference_mode()
def recognise(model: Path, utterances: Sequence[Utterance]) -> Iterator[Evidence]:
    """English clips, recognised as `fun-asr transcribe` does by default before its guard; shortest first."""
    device = resolve_device("auto")
    network = load_network(model, device, resolve_compute_type("auto", device))
    tokenizer, pieces = Tokenizer(model / TOKENIZER_FILE), CTCTokenizer(model / CTC_TOKENIZER_FILE)
    language_model_file = model / CTC_LANGUAGE_MODEL_FILE
    language_model = NGramModel.load(language_model_file) if language_model_file.exists() else None
    options = GenerateOptions(beam_size=DEFAULT_BEAM, margin=BEAM_MARGIN, suppress=tokenizer.captions)
    ordered = sorted(utterances, key=lambda utterance: utterance.duration)
    for start in range(0, len(ordered), BATCH):
        rows = ordered[start : start + BATCH]
        waves = [load_wave(row) for row in rows]
        encoded, lengths_B = network.encode(*log_mel(waves, device=device))
        log_probs, ctc_lengths_B = network.ctc(encoded, lengths_B)
        frames = [row[:length].cpu().numpy() for row, length in zip(log_probs, ctc_lengths_B.tolist(), strict=True)]
        hypotheses = generate(network.decoder, encoded, lengths_B, tokenizer, ["en"] * len(rows), options)
        if language_model is not None:
            hypotheses = [best_hypothesis(h, language_model, tokenizer, pieces) for h in hypotheses]
        cut = [cut_loops(hypothesis.tokens) for hypothesis in hypotheses]
        drafts = [
            written_words(tokenizer, tokens, hypothesis.log_probs[: len(tokens)])
            for (tokens, _), hypothesis in zip(cut, hypotheses, strict=True)
        ]
        valid = zip(log_probs, ctc_lengths_B.tolist(), strict=True)
        bare = [
            pieces.decode(ctc.prefix_search(row[:length], pieces.blank, language_model)).split()
            for row, length in valid
        ]
        timed = time_words(drafts, frames, waves, pieces)
        ctc_timed = time_words([[WrittenWord(word) for word in row] for row in bare], frames, waves, pieces)
        for i, row in enumerate(rows):
            yield Evidence(row.text, waves[i], frames[i], timed[i], ctc_timed[i], cut[i][1])
        print(f"\r{start + len(rows)}/{len(ordered)} clips", end="", file=sys.stderr)
    print(file=sys.stderr)


def right_words(reference: str, words: Sequence[AlignedWord]) -> list[bool]:
    """Which words are right, as they are said: "$5" is "five dollars"."""
    expected = [part for word in reference.split() for part in (spoken_form(word) or "").split()]
    written = [(i, part) for i, word in enumerate(words) for part in (spoken_form(word.text) or "").split()]
    wrong = set()
    if expected and written:
        aligned = jiwer.process_words(" ".join(expected), " ".join(part for _, part in written))
        for chunk in aligned.alignments[0]:
            if chunk.type != "equal":
                wrong |= {i for i, _ in written[chunk.hyp_start_idx : chunk.hyp_end_idx]}
    return [bool(expected) and i not in wrong for i in range(len(words))]
