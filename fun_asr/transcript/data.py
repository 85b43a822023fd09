"""What a recording was transcribed to: frozen dataclasses with times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from fun_asr.errors import FunASRError

if TYPE_CHECKING:
    from fun_asr.transcript.cues import SubtitleOptions

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

WRITTEN_WITHOUT_SPACES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
"""Codes of the languages that put no space between words or sentences."""

REPR_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a segment and when it was said."""

    text: str
    start: float
    """Seconds from the start of the recording."""
    end: float
    """Seconds from the start of the recording."""
    confidence: float | None
    """In [0, 1]; None where there is none."""
    speaker: str | None = None
    """Who says it, by a name that holds within its block; None where the model does not say."""

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, for JSON; times are rounded to milliseconds."""
        return {
            "text": self.text,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "confidence": _rounded(self.confidence),
            **({} if self.speaker is None else {"speaker": self.speaker}),
        }


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a recording and what was said in it."""

    start: float
    """Seconds from the start of the recording."""
    end: float
    """Seconds from the start of the recording."""
    text: str
    """Empty where nothing was said."""
    language: str | None
    """Code; that of the recording where nothing was said, None where none was given or detected."""
    language_probability: float | None
    """In [0, 1]; None where the language was given or not detected."""
    score: float | None
    """Mean log-probability of the hypothesis, a token in `generate` decoding, a frame in `ctc`; None without text."""
    words: tuple[Word, ...] = ()
    """Empty where there are no word times."""
    spoken: str = ""
    """What was recognised, before punctuation and inverse text normalization made `text` of it."""
    channel: int | None = None
    """Number of the channel, from 1, where each was transcribed by itself."""
    track: int | None = None
    """Number of the audio track, from 1, where all were transcribed."""
    pauses: tuple[tuple[float, float], ...] = ()
    """Start and end, in seconds of the recording, of stretches in which nobody speaks; none where it is not known."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What else the model says of it: SenseVoice an "emotion" and an "event", such as music or laughter; Nemotron the
    "speakers" that are heard in it, in the order in which they speak, such as "0,1"."""

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, without the pauses, for JSON; times are rounded to milliseconds."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "channel": self.channel,
            "track": self.track,
            "text": self.text,
            "spoken": self.spoken,
            "language": self.language,
            "language_probability": _rounded(self.language_probability),
            "score": _rounded(self.score),
            "tags": dict(self.tags),
            "words": [word.to_dict() for word in self.words],
        }


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What the guard against invented text kept out of a transcript."""

    silent_segments: int = 0
    """Segments in which nobody speaks; they have no text."""
    loops: int = 0
    """Segments in which the decoder repeated itself endlessly; they were decoded again, or one repetition is left."""
    words: int = 0
    """Words at the end of segments, or all of a segment's, of which CTC heard nothing."""

    def to_dict(self) -> dict[str, int]:
        """The fields under their own names, for JSON."""
        return {"silent_segments": self.silent_segments, "loops": self.loops, "words": self.words}


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A part of a recording that could not be decoded."""

    start: float
    """Seconds from the start of the recording."""
    duration: float | None
    """Seconds; None where nothing tells how much is missing."""
    cause: str

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, for JSON; times are rounded to milliseconds."""
        duration = None if self.duration is None else round(self.duration, 3)
        return {"start": round(self.start, 3), "duration": duration, "cause": self.cause}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a loaded model is and computes with."""

    family: str
    """Name of the network's kind."""
    device: str
    arithmetic: Mapping[str, str]
    """Of each part of the network: "float32", "bfloat16" or "int8"; several where they differ within it."""
    kernels: Mapping[str, str]
    """By task, what multiplies matrices, or what is used because that does not work here."""
    notes: tuple[str, ...] = ()
    """What these weights cannot do that others of the family can."""

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, for JSON."""
        return {
            "family": self.family,
            "device": self.device,
            "arithmetic": dict(self.arithmetic),
            "kernels": dict(self.kernels),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The transcript of a recording.

    Where every channel or audio track was transcribed by itself, segments and chunks of all are interleaved in time.
    """

    path: str | None
    """The recording as the caller named it; None for samples in memory."""
    duration: float
    """Length of the recording in seconds."""
    language: str | None
    """Code of the language, of most speech where there are several; None where it was neither given nor detected."""
    language_probability: float | None
    """In [0, 1]; None where the language was given or not detected."""
    segments: tuple[Segment, ...]
    """Sentences, and their parts where there is a pause of more than a second within; none without text."""
    chunks: tuple[Segment, ...] = ()
    """The blocks of at most 30 s that were recognised one by one, with and without text; they follow each other without
    a gap and cover the recording. Empty where a transcript was made of segments alone."""
    word_times: bool = False
    """Whether the segments have words with times: they do in English, where they were asked for."""
    cut: Cut = Cut()
    lost: tuple[Lost, ...] = ()
    """What could not be decoded; inside the recording silence stands in its place."""
    warnings: tuple[str, ...] = ()
    """What there is to say about the recording, a line each, `lost` included."""
    model: ModelInfo | None = None
    """What recognised it."""
    offset: float = 0.0
    """Where a part of a file begins in it, seconds; its own times count from there. 0 for a whole one."""

    @property
    def incomplete(self) -> bool:
        """Whether a part of the recording could not be decoded."""
        return bool(self.lost)

    @property
    def voices(self) -> dict[str | None, tuple[Segment, ...]]:
        """The segments of each channel and track by its name; all under None where nothing was kept apart."""
        found: dict[str | None, list[Segment]] = {_voice(chunk): [] for chunk in self.chunks}
        for segment in self.segments:
            found.setdefault(_voice(segment), []).append(segment)
        return {name: tuple(segments) for name, segments in sorted(found.items(), key=lambda item: item[0] or "")}

    @property
    def text(self) -> str:
        """All that was said, on one line; segments are joined by a space in the languages that write spaces."""
        return self._joined([(segment.text, segment.language) for segment in self.chunks or self.segments])

    @property
    def spoken(self) -> str:
        """The spoken forms, joined likewise."""
        return self._joined([(segment.spoken, segment.language) for segment in self.chunks or self.segments])

    @staticmethod
    def _joined(parts: list[tuple[str, str | None]]) -> str:
        joined = ""
        spaced = True  # whether the language before writes spaces
        for text, language in parts:
            if text:
                spaces = language not in WRITTEN_WITHOUT_SPACES
                joined += (" " if joined and (spaced or spaces) else "") + text
                spaced = spaces
        return joined

    def to_dict(self) -> dict[str, Any]:
        """The fields and the text under their own names, for JSON; times are rounded to milliseconds."""
        return {
            "path": self.path,
            **({"offset": round(self.offset, 3)} if self.offset else {}),
            "duration": round(self.duration, 3),
            "language": self.language,
            "language_probability": _rounded(self.language_probability),
            "text": self.text,
            "spoken": self.spoken,
            "word_times": self.word_times,
            "cut": self.cut.to_dict(),
            "incomplete": self.incomplete,
            "lost": [part.to_dict() for part in self.lost],
            "warnings": list(self.warnings),
            "model": None if self.model is None else self.model.to_dict(),
            "segments": [segment.to_dict() for segment in self.segments],
            "chunks": [_without_words(chunk.to_dict()) for chunk in self.chunks],
        }

    def unwrap(self) -> Transcript:
        """Itself, where a failure raises its error."""
        return self

    def to_srt(self, options: SubtitleOptions | None = None) -> str:
        """Subtitles as SubRip.

        Arguments:
            options: how they are cut; None is `SubtitleOptions()`.
        """
        from fun_asr.transcript.cues import SubtitleOptions
        from fun_asr.transcript.subtitles import SubRip

        return SubRip().render(self, options or SubtitleOptions())

    def to_vtt(self, options: SubtitleOptions | None = None) -> str:
        """Subtitles as WebVTT.

        Arguments:
            options: as for `to_srt`.
        """
        from fun_asr.transcript.cues import SubtitleOptions
        from fun_asr.transcript.subtitles import WebVTT

        return WebVTT().render(self, options or SubtitleOptions())

    def __repr__(self) -> str:
        text = self.text
        beginning = text if len(text) <= REPR_CHARACTERS else text[: REPR_CHARACTERS - 1] + "…"
        count = f"{len(self.segments)} segment{'' if len(self.segments) == 1 else 's'}"
        return f"<Transcript of {self.path!r}: {self.duration:.1f} s, {self.language}, {count}, {beginning!r}>"

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        from fun_asr.transcript.notebook import as_html

        return as_html(self)


@dataclass(frozen=True, kw_only=True)
class TranscriptionFailure:
    """Why a recording has no transcript."""

    path: str
    """The recording as the caller named it."""
    error: FunASRError

    def unwrap(self) -> NoReturn:
        """Raise the error."""
        raise self.error


Result = Transcript | TranscriptionFailure
"""What comes of a recording."""


def _voice(segment: Segment) -> str | None:
    parts = [("Track", segment.track), ("Channel", segment.channel)]
    return ", ".join(f"{kind} {number}" for kind, number in parts if number is not None) or None


def _without_words(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "words"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
