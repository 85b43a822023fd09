"""Fun-ASR: a speech recognition engine.

`load_model` returns a `Transcriber`, which turns each recording into a `Transcript` of `Segment`s and `Word`s, or into
a `TranscriptionFailure` that says why there is none. `Transcriber.stream` listens while somebody speaks. `wer` scores
texts against references.

Importing the package sets GOMP_SPINCOUNT in the environment, unless that or OMP_WAIT_POLICY is set (`fun_asr.threads`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fun_asr.threads import set_up_threads

if TYPE_CHECKING:
    from fun_asr.audio.load import decode_audio
    from fun_asr.errors import AudioDecodeError, CheckpointError, ConfigError, FunASRError, ManifestError, ScoringError
    from fun_asr.probing import DetectedLanguage
    from fun_asr.scoring.texts import WordErrorRate, wer
    from fun_asr.streaming.events import Committed, Final, Partial
    from fun_asr.streaming.stream import AsyncStream, Stream
    from fun_asr.transcriber import Transcriber, load_model
    from fun_asr.transcript import Cut, Segment, Transcript, TranscriptionFailure, Word
    from fun_asr.transcript.cues import SubtitleOptions

__version__ = "0.1.0"

# Here, before any module of the package can load torch, which reads it once.
set_up_threads()

__all__ = [
    "AsyncStream",
    "AudioDecodeError",
    "CheckpointError",
    "Committed",
    "ConfigError",
    "Cut",
    "DetectedLanguage",
    "Final",
    "FunASRError",
    "ManifestError",
    "Partial",
    "ScoringError",
    "Segment",
    "Stream",
    "SubtitleOptions",
    "Transcriber",
    "Transcript",
    "TranscriptionFailure",
    "Word",
    "WordErrorRate",
    "__version__",
    "decode_audio",
    "load_model",
    "wer",
]

# Imported on first use: torch takes seconds, and `fun-asr --help` needs none of it.
_MODULE_OF = {
    "AsyncStream": "fun_asr.streaming.stream",
    "AudioDecodeError": "fun_asr.errors",
    "CheckpointError": "fun_asr.errors",
    "Committed": "fun_asr.streaming.events",
    "ConfigError": "fun_asr.errors",
    "Cut": "fun_asr.transcript",
    "DetectedLanguage": "fun_asr.probing",
    "Final": "fun_asr.streaming.events",
    "FunASRError": "fun_asr.errors",
    "ManifestError": "fun_asr.errors",
    "Partial": "fun_asr.streaming.events",
    "ScoringError": "fun_asr.errors",
    "Segment": "fun_asr.transcript",
    "Stream": "fun_asr.streaming.stream",
    "SubtitleOptions": "fun_asr.transcript.cues",
    "Transcriber": "fun_asr.transcriber",
    "Transcript": "fun_asr.transcript",
    "TranscriptionFailure": "fun_asr.transcript",
    "Word": "fun_asr.transcript",
    "WordErrorRate": "fun_asr.scoring.texts",
    "decode_audio": "fun_asr.audio.load",
    "load_model": "fun_asr.transcriber",
    "wer": "fun_asr.scoring.texts",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
