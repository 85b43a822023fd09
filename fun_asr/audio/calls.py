"""Find out that the channels of a recording hold different speech, as those of recorded calls do."""

from __future__ import annotations

import numpy as np
import soxr

from fun_asr.audio.downmix import Apart
from fun_asr.audio.report import SAMPLE_RATE, AudioReport
from fun_asr.audio.vad import WINDOWS_PER_SECOND, SpeechDetector, speech_probabilities

__all__ = ["note_call"]

SPEECH = 0.5  # probability
LEAST_SPEECH = 1.0  # seconds a channel


def note_call(apart: Apart | None, detector: SpeechDetector, report: AudioReport) -> None:
    """Warn if several channels have speech that the others have not.

    Arguments:
        apart: what each channel had for itself; None where no channels were mixed.
        detector: tells speech from other sound.
        report: takes the warning.
    """
    channels = {} if apart is None else apart.channels
    if apart is None or len(channels) < 2:
        return
    speaking = []
    for channel, samples in sorted(channels.items()):
        resampled = soxr.resample(samples, apart.rate, SAMPLE_RATE)
        found = sum(
            int(np.count_nonzero(probabilities >= SPEECH))
            for _, probabilities in speech_probabilities(detector, [resampled.astype(np.float32)])
        )
        if found >= LEAST_SPEECH * WINDOWS_PER_SECOND:
            speaking.append(channel + 1)
    if len(speaking) > 1:
        listed = f"{', '.join(map(str, speaking[:-1]))} and {speaking[-1]}"
        report.warn(f"channels {listed} hold different speech; --channels each transcribes each by itself")
