"""Clips joined with pauses into recordings of any length, in which the place of each is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.training.data import Utterance, load_wave

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class JoinedClip:
    """A clip of a joined recording."""

    utterance: Utterance
    start: int
    """Samples before its first."""
    pause: Samples
    """Digital silence, which comes before it."""
    samples: Samples


def join_clips(
    utterances: Sequence[Utterance], seconds: float, pauses: tuple[float, float], seed: int
) -> Iterator[JoinedClip]:
    """The clips of a joined recording, over and over in their order until `seconds` are full.

    Arguments:
        utterances: read when their turn comes, so that a recording of hours takes no memory.
        seconds: at least so many; the last clip is whole.
        pauses: shortest and longest, seconds.
        seed: of their lengths.
    """
    rng = np.random.default_rng(seed)
    count = number = 0
    while count < seconds * SAMPLE_RATE:
        utterance = utterances[number % len(utterances)]
        pause = np.zeros(round(rng.uniform(*pauses) * SAMPLE_RATE), np.float32)
        clip = JoinedClip(utterance, count + len(pause), pause, load_wave(utterance))
        yield clip
        count = clip.start + len(clip.samples)
        number += 1


def write_recording(path: Path, parts: Iterable[Samples]) -> float:
    """Write samples at 16 kHz in the format of the path's suffix, part by part, and return their seconds."""
    subtype = "OPUS" if path.suffix == ".opus" else None
    container = "OGG" if path.suffix == ".opus" else None
    count = 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype, format=container) as file:
        for part in parts:
            # libsndfile's Vorbis encoder overflows its stack on one write of minutes.
            for start in range(0, len(part), SAMPLE_RATE):
                file.write(part[start : start + SAMPLE_RATE])
            count += len(part)
    return count / SAMPLE_RATE


def write_joined(
    path: Path, utterances: Sequence[Utterance], seconds: float, pauses: tuple[float, float], seed: int
) -> float:
    """Write what `join_clips` joins, and return its seconds."""
    clips = join_clips(utterances, seconds, pauses, seed)
    return write_recording(path, (part for clip in clips for part in (clip.pause, clip.samples)))
