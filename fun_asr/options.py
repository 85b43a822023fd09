"""What a caller chooses: how a model is loaded, how recordings are transcribed. Checked once, where it is made.

A new choice is a field here, an option of the command line (`fun_asr.cli.common`) and a parameter of
`Transcriber.transcribe`; everything between hands the object on. Nothing here imports torch: the processes that only
hand out work have these objects too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from fun_asr.audio.options import AudioOptions
from fun_asr.errors import ConfigError
from fun_asr.text.hotwords import Hotword

__all__ = ["DEFAULT_BEAM_SIZE", "Decoding", "ModelOptions", "Task", "TranscriptionOptions"]

DEFAULT_BEAM_SIZE = 3  # by bin/benchmark: a sixth fewer errors than greedy search on Common Voice, little slower

Decoding = Literal["generate", "ctc"]
Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is loaded, and where it computes.

    Raises:
        ConfigError: when a value is out of range.
    """

    directory: Path | None = None
    """None is the model inside the package."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; several with commas for a large language model."""
    compute_type: str = "auto"
    """auto, float32, bfloat16, float16 (GPU only), int8 (CPU only) or int4 (CPU only, models with a language model)."""
    threads: int = 0
    """CPU threads of the network, for the whole process; 0 leaves torch's own number."""
    aligner: Path | None = None
    """A model that finds when the words of another one's text are said; not every model needs one."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"threads must not be negative, got {self.threads}")


@dataclass(frozen=True, kw_only=True)
class TranscriptionOptions:
    """How recordings are transcribed; `Transcriber.transcribe` says more of each.

    Raises:
        ConfigError: when a value is out of range, or two do not go together.
    """

    language: str | None = None
    """Code; None detects it in every segment."""
    languages: tuple[str, ...] = ()
    """Codes of the only ones that are detected; none for all that the model knows."""
    decoding: Decoding = "generate"
    beam_size: int = DEFAULT_BEAM_SIZE
    """Hypotheses kept by "generate"; 1 is greedy search."""
    batch_size: int = 16
    """Most segments recognised at once."""
    word_times: bool = True
    punctuation: bool = True
    itn: bool = True
    hotwords: tuple[Hotword, ...] = ()
    """As `checked_hotwords` gives them."""
    audio: AudioOptions = field(default_factory=AudioOptions)
    """What is taken from a recording: channels, track, and whether a damaged one is refused."""
    task: Task = "transcribe"
    """"translate" writes English whatever is spoken; not every model can."""
    initial_prompt: str = ""
    """What the model takes for the text before each segment: names and spelling to follow. Not every model can."""
    temperature_fallback: bool = False
    """Whether a segment with a loop or an unlikely text is tried again at random, ever more freely; a model with a CTC
    head needs none of it."""
    clip_timestamps: tuple[float, ...] = ()
    """Start, end, start, ... in seconds: the parts of each recording that are transcribed; none for all of it. The last
    end may be left out. `fun_asr.clips.checked_clips` gives them."""
    guard: bool = True
    """Whether invented text is cut; without, what the search found stays, for those who measure the guard."""

    def __post_init__(self) -> None:
        if self.decoding not in get_args(Decoding):
            raise ConfigError(f"decoding {self.decoding!r} is unknown; use {' or '.join(get_args(Decoding))}")
        if self.task not in get_args(Task):
            raise ConfigError(f"task {self.task!r} is unknown; use {' or '.join(get_args(Task))}")
        if self.beam_size < 1 or self.batch_size < 1:
            raise ConfigError(
                f"beam_size and batch_size must be at least 1, got {self.beam_size} and {self.batch_size}"
            )
        if self.decoding == "ctc" and self.beam_size != DEFAULT_BEAM_SIZE:
            raise ConfigError("beam_size belongs to decoding generate")
        if self.language is not None and self.languages:
            raise ConfigError("language: one is given, or several are detected")
