"""Texts with times: NIST's ctm, a word a line, and stm, a segment a line."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fun_asr.scoring.lines import check_unique, read_content
from fun_asr.scoring.utterance import Utterance, match_ids

__all__ = ["CTMWord", "Segment", "ctm_utterances", "read_ctm", "read_stm", "stm_utterances", "words_of_segments"]

_IGNORED = "ignore_time_segment_in_scoring"
_STM = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)(?:\s+<([^>]*)>)?(?:\s+(.*))?")


@dataclass(frozen=True, slots=True)
class CTMWord:
    """A line of a ctm."""

    recording: str
    channel: str
    start: float
    """Seconds."""
    duration: float
    """Seconds."""
    word: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A line of an stm."""

    recording: str
    channel: str
    speaker: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    text: str
    line: int

    @property
    def ignored(self) -> bool:
        """Whether words here are not scored."""
        return self.text.strip().lower() == _IGNORED

    @property
    def id(self) -> str:
        """Of the segment as an utterance."""
        return f"{self.recording}-{self.channel}-{self.start:.2f}-{self.end:.2f}"


def read_ctm(path: Path, problems: list[str]) -> list[CTMWord]:
    """`recording channel start duration word [confidence]` a line."""
    words = []
    for number, line in read_content(path, problems):
        try:
            recording, channel, start, duration, word, *rest = line.split()
            confidence = float(rest[0]) if rest else None
            words.append(CTMWord(recording, channel, float(start), float(duration), word, confidence))
        except ValueError:
            form = "recording channel start duration word [confidence]"
            problems.append(f"{path}:{number}: is not a line of ctm: {form}")
    return words


def read_stm(path: Path, problems: list[str]) -> list[Segment]:
    """`recording channel speaker start end [<labels>] words...` a line."""
    segments = []
    for number, line in read_content(path, problems):
        match = _STM.fullmatch(line.strip())
        try:
            if not match:
                raise ValueError
            start, end = float(match[4]), float(match[5])
        except ValueError:
            form = "recording channel speaker start end [<labels>] words"
            problems.append(f"{path}:{number}: is not a line of stm: {form}")
            continue
        segments.append(Segment(match[1], match[2], match[3], start, end, match[7] or "", number))
    return segments


def ctm_utterances(words: Iterable[CTMWord]) -> list[Utterance]:
    """An utterance for each recording, or for each channel of those with several."""
    by_channel: dict[str, dict[str, list[CTMWord]]] = defaultdict(lambda: defaultdict(list))
    for word in words:
        by_channel[word.recording][word.channel].append(word)
    return [
        _utterance(recording if len(channels) == 1 else f"{recording}-{channel}", spoken)
        for recording, channels in by_channel.items()
        for channel, spoken in channels.items()
    ]


def _utterance(name: str, words: Iterable[CTMWord]) -> Utterance:
    ordered = sorted(words, key=lambda word: word.start)
    scores = [word.confidence for word in ordered if word.confidence is not None]
    return Utterance(
        id=name,
        text=" ".join(word.word for word in ordered),
        confidence=sum(scores) / len(scores) if scores else None,
    )


def stm_utterances(
    path: Path, segments: Sequence[Segment], problems: list[str], *, whole_recordings: bool
) -> list[Utterance]:
    """An utterance for each segment that is scored, or for each recording, or channel, with all of its segments."""
    scored = [segment for segment in segments if not segment.ignored]
    if not whole_recordings:
        found = (
            (
                segment.line,
                Utterance(
                    id=segment.id,
                    text=segment.text,
                    duration=segment.end - segment.start,
                    speaker=segment.speaker,
                    corpus=None,
                ),
            )
            for segment in scored
        )
        return check_unique(path, found, problems)
    words = (CTMWord(segment.recording, segment.channel, segment.start, 0.0, segment.text, None) for segment in scored)
    return ctm_utterances(words)


def words_of_segments(segments: Iterable[Segment], words: Iterable[CTMWord]) -> list[Utterance]:
    """What a ctm says in each segment of an stm: sclite's rule.

    A word belongs to the first segment that ends after the word's middle, and so words in a gap to the segment after
    it; words after the last segment belong to that. What falls into a segment that is not scored is dropped.

    Returns:
        an utterance with the segment's id for the segments of each recording that has a word; further ones, with the
        recording's name, for words of recordings that have no segment.
    """
    segments = list(segments)
    by_channel: dict[tuple[str, str], list[CTMWord]] = defaultdict(list)
    for word in _as_called(words, segments):
        by_channel[word.recording, word.channel].append(word)
    segments_by_channel: dict[tuple[str, str], list[Segment]] = defaultdict(list)
    for segment in segments:
        segments_by_channel[segment.recording, segment.channel].append(segment)
    utterances = []
    for channel, parts in segments_by_channel.items():
        spoken = sorted(by_channel.pop(channel, []), key=lambda word: word.start)
        if not spoken:
            continue
        parts.sort(key=lambda segment: segment.start)
        position = 0
        for part in parts:
            first = position
            is_last = part is parts[-1]
            while position < len(spoken) and (is_last or _middle(spoken[position]) <= part.end):
                position += 1
            if not part.ignored:
                utterances.append(_utterance(part.id, spoken[first:position]))
    return utterances + ctm_utterances(word for spoken in by_channel.values() for word in spoken)


def _as_called(words: Iterable[CTMWord], segments: Sequence[Segment]) -> list[CTMWord]:
    """Words under the names that an stm has for their recordings, and for the one channel of each."""
    words = list(words)
    names = match_ids((segment.recording for segment in segments), (word.recording for word in words))
    called = [dataclasses.replace(word, recording=names.get(word.recording, word.recording)) for word in words]
    theirs, ours = _channels(segments), _channels(called)
    only = {
        name: next(iter(channels)) for name, channels in theirs.items() if len(channels) == 1 == len(ours.get(name, ()))
    }
    return [dataclasses.replace(word, channel=only.get(word.recording, word.channel)) for word in called]


def _channels(parts: Iterable[CTMWord | Segment]) -> dict[str, set[str]]:
    channels: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        channels[part.recording].add(part.channel)
    return channels


def _middle(word: CTMWord) -> float:
    return word.start + word.duration / 2
