"""What the decoder and CTC say of the words of clips, for the scripts that fit and measure thresholds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.audio.prefetch import AudioSegment
from fun_asr.audio.segment import Span
from fun_asr.decoding.words import AlignedWord
from fun_asr.errors import ConfigError
from fun_asr.models.fun_asr.recogniser import FunASRRecogniser
from fun_asr.options import TranscriptionOptions
from fun_asr.scoring.texts import score_texts
from fun_asr.text.spoken import spoken_form
from fun_asr.training.acoustics import Wave
from fun_asr.training.data import Utterance, load_wave, read_manifest
from fun_asr.transcriber import Transcriber

BATCH = 16
WINDOW = 30 * SAMPLE_RATE
T = TypeVar("T")


@dataclass(frozen=True)
class Evidence:
    """One clip, recognised."""

    reference: str
    samples: Wave
    ctc_log_probs: npt.NDArray[np.float32]
    """`[J, C]`."""
    words: list[AlignedWord]
    """The decoder's."""
    ctc_words: list[AlignedWord]
    """Those of CTC alone."""
    looped: bool


def spread(rows: Sequence[T], limit: int) -> list[T]:
    """`limit` evenly spread ones, all of them for 0."""
    count = min(limit, len(rows)) if limit else len(rows)
    return [rows[i * len(rows) // count] for i in range(count)]


def load_utterances(manifests: Sequence[Path], limit: int) -> list[Utterance]:
    """`limit` evenly spread utterances of each manifest, all of them for 0."""
    return [utterance for manifest in manifests for utterance in spread(read_manifest(manifest), limit)]


def segments_of(waves: Sequence[Wave]) -> list[AudioSegment]:
    """Clips as the recogniser takes them."""
    return [AudioSegment(number, Span(0, len(wave)), wave) for number, wave in enumerate(waves)]


def padded(wave: Wave) -> Wave:
    """A clip with digital silence after it up to 30 s, as Whisper was trained."""
    return np.pad(wave, (0, max(0, WINDOW - len(wave))))


def own_recogniser(transcriber: Transcriber) -> FunASRRecogniser:
    """The recogniser of a model of this project's family, whose parts are measured.

    Raises:
        ConfigError: when the model is another one.
    """
    if not isinstance(transcriber.recogniser, FunASRRecogniser):
        raise ConfigError(f"{transcriber.info.family}: only models of this project's family have the parts measured")
    return transcriber.recogniser


def recognise(recogniser: FunASRRecogniser, utterances: Sequence[Utterance]) -> Iterator[Evidence]:
    """English clips, recognised as `fun-asr transcribe` does by default before its guard; shortest first."""
    by_decoder = TranscriptionOptions(language="en", guard=False)
    by_ctc = TranscriptionOptions(language="en", guard=False, decoding="ctc")
    ordered = sorted(utterances, key=lambda utterance: utterance.duration)
    for start in range(0, len(ordered), BATCH):
        rows = ordered[start : start + BATCH]
        encoded = recogniser.encode(segments_of([load_wave(row) for row in rows]))
        languages = ["en"] * len(rows)
        drafts = recogniser.draft(encoded, languages, by_decoder)
        ctc_drafts = recogniser.draft(encoded, languages, by_ctc)
        frames = [frames.cpu().numpy() for frames in encoded.ctc_frames]
        for row, segment, log_probs, draft, ctc_draft in zip(
            rows, encoded.segments, frames, drafts, ctc_drafts, strict=True
        ):
            words, ctc_words = draft.timed or [], ctc_draft.timed or []
            yield Evidence(row.text, segment.samples, log_probs, words, ctc_words, draft.looped)
        print(f"\r{start + len(rows)}/{len(ordered)} clips", end="", file=sys.stderr)
    print(file=sys.stderr)


def right_words(reference: str, words: Sequence[AlignedWord]) -> list[bool]:
    """Which words are right, as they are said: "$5" is "five dollars"."""
    expected = [part for word in reference.split() for part in (spoken_form(word) or "").split()]
    written = [(i, part) for i, word in enumerate(words) for part in (spoken_form(word.text) or "").split()]
    wrong = set()
    if expected and written:
        (scored,) = score_texts([" ".join(expected)], [" ".join(part for _, part in written)], unit="words").utterances
        for chunk in scored.alignment:
            if chunk.type != "equal":
                wrong |= {i for i, _ in written[chunk.hyp_start_idx : chunk.hyp_end_idx]}
    return [bool(expected) and i not in wrong for i in range(len(words))]
