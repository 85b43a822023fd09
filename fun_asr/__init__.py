"""Fun-ASR: a speech recognition engine.

`load_model` returns a `Transcriber`, which turns each recording into a `Transcript` of `Segment`s and `Word`s, or into
a `TranscriptionFailure` that says why there is none. `wer` scores texts against references.

Importing the package sets GOMP_SPINCOUNT in the environment, unless that or OMP_WAIT_POLICY is set (`fun_asr.threads`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fun_asr.threads import set_up_threads

if TYPE_CHECKING:
    from fun_asr.scoring.texts import WordErrorRate, wer
    from fun_asr.transcriber import Transcriber, load_model
    from fun_asr.transcript import Cut, Segment, Transcript, TranscriptionFailure, Word

__version__ = "0.1.0"

# Here, before any module of the package can load torch, which reads it once.
set_up_threads()

__all__ = [
    "Cut",
    "Segment",
    "Transcriber",
    "Transcript",
    "TranscriptionFailure",
    "Word",
    "WordErrorRate",
    "__version__",
    "load_model",
    "wer",
]

# Imported on first use: torch takes seconds, and `fun-asr --help` needs none of it.
_MODULE_OF = {
    "Cut": "fun_asr.transcript",
    "Segment": "fun_asr.transcript",
    "Transcriber": "fun_asr.transcriber",
    "Transcript": "fun_asr.transcript",
    "TranscriptionFailure": "fun_asr.transcript",
    "Word": "fun_asr.transcript",
    "WordErrorRate": "fun_asr.scoring.texts",
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
