"""Which of a container's audio tracks is read: the player's choice, a number, or a language."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import av
from av.stream import Disposition

from fun_asr.audio.report import Track
from fun_asr.errors import AudioDecodeError

__all__ = ["choose_track", "describe_tracks", "same_language"]

# Not what is said in the picture, but something about it.
ASIDE = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.karaoke
    | Disposition.clean_effects
)

# Containers write ISO 639-2 in its bibliographic or terminological form, or a BCP 47 tag; people write any of them.
LANGUAGES = """
af afr, am amh, ar ara, as asm, az aze, ba bak, be bel, bg bul, bn ben, bo bod tib, br bre, bs bos, ca cat, cs ces cze,
cy cym wel, da dan, de deu ger, el ell gre, en eng, es spa, et est, eu eus baq, fa fas per, fi fin, fo fao, fr fra fre,
ga gle, gl glg, gu guj, ha hau, he heb, hi hin, hr hrv, ht hat, hu hun, hy hye arm, id ind, is isl ice, it ita, ja jpn,
jv jav, ka kat geo, kk kaz, km khm, kn kan, ko kor, ky kir, la lat, lb ltz, ln lin, lo lao, lt lit, lv lav, mg mlg,
mi mri mao, mk mkd mac, ml mal, mn mon, mr mar, ms msa may, mt mlt, my mya bur, ne nep, nl nld dut, nn nno, no nor,
nb nob, oc oci, or ori, pa pan, pl pol, ps pus, pt por, ro ron rum, ru rus, sa san, sd snd, si sin, sk slk slo, sl slv,
sn sna, so som, sq sqi alb, sr srp, su sun, sv swe, sw swa, ta tam, te tel, tg tgk, th tha, tk tuk, tl tgl, tr tur,
tt tat, uk ukr, ur urd, uz uzb, vi vie, yi yid, yo yor, zh zho chi, zu zul
"""
CODES = {code: group.split()[0] for group in LANGUAGES.split(",") for code in group.split()}


def same_language(first: str | None, second: str) -> bool:
    """Whether two codes mean one language, regions and scripts aside."""
    return first is not None and _code(first) == _code(second)


def _code(language: str) -> str:
    base = language.strip().lower().replace("_", "-").split("-")[0]
    return CODES.get(base, base)


def describe_tracks(container: av.container.InputContainer) -> tuple[Track, ...]:
    """The audio tracks, in their order."""
    return tuple(
        Track(
            number=number,
            language=stream.language,
            title=stream.metadata.get("title"),
            codec=stream.codec_context.name if stream.codec_context else "",
            channels=stream.codec_context.channels if stream.codec_context else 0,
            default=bool(stream.disposition & Disposition.default),
        )
        for number, stream in enumerate(container.streams.audio, 1)
    )


def choose_track(
    path: str | os.PathLike[str], streams: Sequence[av.AudioStream], wanted: str | None
) -> tuple[int, av.AudioStream]:
    """The track to read and its number, from 1.

    Arguments:
        path: the recording, for the message.
        streams: its audio tracks, at least one.
        wanted: a number or a language; None takes the default track, and rather none that comments on the others.

    Raises:
        AudioDecodeError: when there is no such track.
    """
    numbered = list(enumerate(streams, 1))
    if wanted is None:
        return min(
            numbered,
            key=lambda item: (bool(item[1].disposition & ASIDE), not item[1].disposition & Disposition.default),
        )
    if wanted.isdigit():
        if int(wanted) <= len(numbered):
            return numbered[int(wanted) - 1]
        raise AudioDecodeError(path, f"has no audio track {wanted}; it has {_listed(streams)}")
    spoken = [item for item in numbered if same_language(item[1].language, wanted)]
    if not spoken:
        raise AudioDecodeError(path, f"has no audio track in language {wanted!r}; it has {_listed(streams)}")
    return min(spoken, key=lambda item: bool(item[1].disposition & ASIDE))


def _listed(streams: Sequence[av.AudioStream]) -> str:
    return ", ".join(f"{number} ({stream.language or 'und'})" for number, stream in enumerate(streams, 1))


def loud_tracks(path: str | os.PathLike[str], file: BinaryIO, inaudible: float) -> list[int]:
    """Numbers of the tracks in which something can be heard; each is read until something is."""
    from fun_asr.audio.timeline import packets, values_of

    file.seek(0)
    loud: set[int] = set()
    with av.open(file, "r") as container:
        count = len(container.streams.audio)
    for number in range(1, count + 1):
        file.seek(0)
        with av.open(file, "r") as container:
            stream = container.streams.audio[number - 1]
            for _, frames, _ in packets(container, stream):
                if any(float(abs(values_of(frame)).max(initial=0.0)) > inaudible for frame in frames):
                    loud.add(number)
                    break
    return sorted(loud)
