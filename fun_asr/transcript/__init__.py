"""What a recording was transcribed to, its sentences, and its subtitles."""

from fun_asr.transcript.data import (
    WRITTEN_WITHOUT_SPACES,
    Cut,
    Lost,
    ModelInfo,
    Result,
    Segment,
    Transcript,
    TranscriptionFailure,
    Word,
)

__all__ = [
    "WRITTEN_WITHOUT_SPACES",
    "Cut",
    "Lost",
    "ModelInfo",
    "Result",
    "Segment",
    "Transcript",
    "TranscriptionFailure",
    "Word",
]
