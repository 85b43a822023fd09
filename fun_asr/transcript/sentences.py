"""Blocks of recognised speech cut into segments that are sentences, or pauses apart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from fun_asr.transcript.data import WRITTEN_WITHOUT_SPACES, Segment, Word
from fun_asr.transcript.marks import Ending, ending
from fun_asr.transcript.words import CueWord, cue_words

__all__ = ["PAUSE_SECONDS", "sentences"]

PAUSE_SECONDS = 1.0


def sentences(block: Segment, pause_seconds: float = PAUSE_SECONDS) -> list[Segment]:
    """The sentences of a block, and their parts where there is a pause within.

    Arguments:
        block: its times are in seconds; language, score and the like stand for each of its sentences.
        pause_seconds: longest pause within a segment, seconds.

    Returns:
        segments in order; none without text. Their texts and spoken forms, joined, are the block's.
    """
    words = cue_words(block)
    if not words:
        return []
    cuts = [
        place
        for place in range(1, len(words))
        if words[place].start - words[place - 1].end > pause_seconds
        or ending(words[place - 1].text, words[place].text, block.language) is Ending.SENTENCE
    ]
    parts = [words[start:end] for start, end in zip([0, *cuts], [*cuts, len(words)], strict=True)]
    texts = [_text(part) for part in parts]
    spoken = _spoken(block, texts)
    found = []
    used = 0  # words of the block
    for part, text, said in zip(parts, texts, spoken, strict=True):
        count = sum(word.count for word in part)
        start, end = part[0].start, max(word.end for word in part)
        found.append(
            replace(
                block,
                start=start,
                end=end,
                text=text,
                spoken=said,
                # A word that was stretched over a pause is where the part of it that is kept is.
                words=tuple(_within(word, start, end) for word in block.words[used : used + count]),
                tags=_tags(block, block.words[used : used + count]),
                pauses=tuple(
                    (max(begin, start), min(until, end))
                    for begin, until in block.pauses
                    if begin < end and until > start
                ),
            )
        )
        used += count
    return found


def _within(word: Word, start: float, end: float) -> Word:
    return replace(word, start=min(max(word.start, start), end), end=max(min(word.end, end), start))


def _tags(block: Segment, words: Sequence[Word]) -> Mapping[str, str]:
    """A block's tags; of its speakers only those who say these words, where it is known who says which."""
    speakers = dict.fromkeys(word.speaker for word in words if word.speaker is not None)
    return {**block.tags, "speakers": ",".join(speakers)} if speakers else block.tags


def _text(words: Sequence[CueWord]) -> str:
    return words[0].text + "".join((" " if word.spaced else "") + word.text for word in words[1:])


def _spoken(block: Segment, texts: Sequence[str]) -> list[str]:
    """The part of the spoken form that each text was made of."""
    if len(texts) == 1 or not block.spoken:
        return [block.spoken] * len(texts) if len(texts) == 1 else [""] * len(texts)
    joint = "" if block.language in WRITTEN_WITHOUT_SPACES else " "
    tokens = list(block.spoken) if not joint else block.spoken.split()
    written = [list(text) if not joint else text.split() for text in texts]
    flat = [token for part in written for token in part]
    if tokens == flat:
        places = list(range(len(flat) + 1))
    else:
        places = _places([_plain(token) for token in flat], [_plain(token) for token in tokens])
    found = []
    done = count = 0
    for part in written:
        count += len(part)
        end = len(tokens) if count == len(flat) else places[count]
        found.append(joint.join(tokens[done:end]).strip())
        done = end
    return found


def _plain(token: str) -> str:
    return "".join(character for character in token.lower() if character.isalnum()) or token


def _places(written: Sequence[str], spoken: Sequence[str]) -> list[int]:
    """Where in `spoken` each word of `written` begins, and where the last one ends."""
    known_written, known_spoken = [0], [0]
    for match in SequenceMatcher(None, written, spoken, autojunk=False).get_matching_blocks():
        for k in range(match.size):
            known_written += [match.a + k, match.a + k + 1]
            known_spoken += [match.b + k, match.b + k + 1]
    known_written.append(len(written))
    known_spoken.append(len(spoken))
    places = []
    for place in range(len(written) + 1):
        # Of what was rewritten, the words share the spoken ones.
        after = bisect_left(known_written, place)
        before = max(after - 1, 0)
        if known_written[after] == place:
            # What was dropped before a match goes with what was said before it.
            places.append(
                known_spoken[min(after + (known_written[after + 1 : after + 2] == [place]), len(known_spoken) - 1)]
            )
            continue
        low, high = known_written[before], known_written[after]
        share = (place - low) / (high - low)
        places.append(known_spoken[before] + round(share * (known_spoken[after] - known_spoken[before])))
    return places
