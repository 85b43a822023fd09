"""Where the recordings that a file holds one after the other begin and end, and what is wrong with each.

Ogg may be chained (RFC 3533, 4); players and archives join FLAC, WAV, AIFF, MP3 and WebM files by appending them; and
captures begin inside a frame. Decoders stop at the end of the first, or stumble over the header of the next.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fun_asr.audio.containers import Damage, find_damage, is_mpeg, mp3_tag_at, ogg_pages, wave_data
from fun_asr.audio.source import Window, size_of

__all__ = ["Link", "beginning", "find_links"]

SCANNED_AT_ONCE = 1 << 20
JUNK = 1 << 16  # bytes before a recording's beginning that are looked through
FEW = 64  # bytes before a recording in which it is looked for before all else
LEAST_ZEROS = 16  # bytes: containers begin with a few
LONGEST_MARK = 4096  # bytes that the parts read at once overlap
LEAST_TAIL = 0.1  # seconds: less audio behind the stated end is a tag or padding
FLAC_MARK = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
MP3_MARK = re.compile(rb"ID3[\x02-\x04][\x00-\x0f][\x00\xe0\xf0\x80\xc0\x40\x20\x10][\x00-\x7f]{4}|Xing|Info")
BEGINNING = re.compile(
    rb"RIFF....WAVE|RF64....WAVE|FORM....AIF[FC]|OggS\x00\x02|fLaC[\x00\x80]\x00\x00\x22|\x1aE\xdf\xa3", re.DOTALL
)
CHUNK = re.compile(rb"[A-Za-z][A-Za-z0-9_ ]{2,3}")


@dataclass(frozen=True)
class Link:
    """One recording in a file."""

    start: int
    """First byte."""
    end: int
    """One past the last byte."""
    head: bytes = b""
    """What its first bytes should have been."""
    damage: Damage | None = None

    def open(self, file: BinaryIO) -> BinaryIO:
        """The part as a file; the whole file is given as it is."""
        if self.start == 0 and self.end == size_of(file) and not self.head:
            file.seek(0)
            return file
        return Window(file, self.start, self.end, self.head)


def find_links(file: BinaryIO, start: int = 0) -> list[Link]:
    """The recordings in a file from a byte on, in their order; at least one, whatever the file holds."""
    size = size_of(file)
    start = start or _behind_zeros(file) or beginning(file, FEW)
    file.seek(start)
    head = file.read(12).ljust(12, b"\0")
    if head[:4] == b"OggS":
        return list(_ogg_links(file, start, size))
    if head[:4] in (b"RIFF", b"FORM", b"RF64") and head[8:12] in (b"WAVE", b"AIFF", b"AIFC"):
        return list(_chunked_links(file, start, size))
    if head[:4] == b"\x1aE\xdf\xa3":
        return list(_matroska_links(file, start, size))
    if head[:4] == b"fLaC":
        starts = [at for at, _ in _marks(file, FLAC_MARK, start)]
    elif is_mpeg(Window(file, start, size)):
        starts = _mp3_starts(file, start, size)
    else:
        starts = [start]
    edges = [start, *(at for at in starts if at > start), size]
    links = []
    for first, last in itertools.pairwise(edges):
        links.append(Link(first, last, damage=find_damage(Window(file, first, last))))
    return links


def _behind_zeros(file: BinaryIO) -> int:
    """Where MPEG audio begins behind zeros; a tag in its first frame would not be seen there."""
    file.seek(0)
    head = file.read(JUNK)
    zeros = len(head) - len(head.lstrip(b"\0"))
    return zeros if LEAST_ZEROS <= zeros < len(head) and is_mpeg(Window(file, zeros, zeros + 3)) else 0


def beginning(file: BinaryIO, within: int = JUNK) -> int:
    """Where the first recording begins in a file that cannot be read from its first byte; 0 where nothing tells."""
    file.seek(0)
    match = BEGINNING.search(file.read(within))
    return match.start() if match else 0


def _marks(file: BinaryIO, mark: re.Pattern[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Places of a pattern from there on, each with what was found."""
    file.seek(start)
    place, held = start, b""
    while block := file.read(SCANNED_AT_ONCE):
        data = held + block
        limit = len(data) - LONGEST_MARK if len(block) == SCANNED_AT_ONCE else len(data)
        for match in mark.finditer(data):
            if match.start() >= limit:
                break
            yield place + match.start(), match[0]
        cut = max(0, limit)
        held, place = data[cut:], place + cut


def _mp3_starts(file: BinaryIO, start: int, size: int) -> list[int]:
    """Where MPEG audio files begin: at an ID3 tag with a frame after it, or a first frame with an encoder's tag."""
    starts: list[int] = []
    tag: tuple[int, int] | None = None
    for at, found in list(_marks(file, MP3_MARK, start)):
        if found[:3] == b"ID3":
            length = 10 + sum(byte << shift for byte, shift in zip(found[6:10], (21, 14, 7, 0), strict=True))
            file.seek(at + length)
            sync = file.read(2)
            if at + length < size and len(sync) == 2 and sync[0] == 0xFF and sync[1] & 0xE0 == 0xE0:
                starts.append(at)
                tag = (at, at + length)
        else:
            frame = mp3_tag_at(file, at)
            if frame is not None and not (tag and tag[0] <= frame <= tag[1] + 4096):
                starts.append(frame)
    return sorted(set(starts))


def _chunked_links(file: BinaryIO, start: int, size: int) -> Iterator[Link]:
    """WAV and AIFF files that follow each other."""
    while start < size:
        window = Window(file, start, size)
        damage = find_damage(window)
        end, header = size, b""
        following = None
        window.seek(0)
        if window.read(4) == b"FORM":
            end = start + 8 + int.from_bytes(window.read(4), "big")
            following = _next_header(file, end, size)
        elif (data := wave_data(window)) is not None:
            offset, length, byte_rate = data
            end = start + offset + length
            # A stated length of nothing is that of a pipe, and read to the end.
            following = _next_header(file, end, size) if length else None
            left = size - end
            if following is None and length and left > LEAST_TAIL * byte_rate and not _chunks(file, end, size):
                window.seek(0)
                header = window.read(offset - 4) + min(left + length, 0xFFFFFFFF).to_bytes(4, "little")
        stop = size if following is None else following
        yield Link(start, stop, header, damage)
        start = stop


def _next_header(file: BinaryIO, end: int, size: int) -> int | None:
    """Where another file of the kind begins: at the end of this one, or behind a few chunks of notes."""
    if end >= size:
        return None
    file.seek(end)
    after = file.read(JUNK)
    match = re.compile(rb"RIFF....WAVE|RF64....WAVE|FORM....AIF[FC]", re.DOTALL).search(after)
    return end + match.start() if match else None


def _chunks(file: BinaryIO, position: int, size: int) -> bool:
    """Whether what stands there is a RIFF chunk rather than samples."""
    for skipped in (0, 1):
        file.seek(position + skipped)
        name, length = file.read(4), int.from_bytes(file.read(4), "little")
        if CHUNK.fullmatch(name) and position + skipped + 8 + length <= size:
            return True
    return name[:3] in (b"TAG", b"ID3")


def _matroska_links(file: BinaryIO, start: int, size: int) -> Iterator[Link]:
    """Matroska and WebM files that follow each other, as recorders that are started anew leave them."""
    while start < size:
        damage = find_damage(Window(file, start, size))
        stop = start + damage.next if damage and damage.next else size
        yield Link(start, stop, damage=damage if damage and damage.cause else None)
        start = stop


def _ogg_links(file: BinaryIO, start: int, size: int) -> Iterator[Link]:
    """Chained Ogg: a link begins with the pages that begin its streams, after pages of others."""
    begin = start
    headers = True
    damage: Damage | None = None
    for page in ogg_pages(file, start):
        if page.damage is not None:
            damage = damage or page.damage
        elif page.begins and not headers:
            yield Link(begin, page.start, damage=damage)
            begin, damage, headers = page.start, None, True
        elif not page.begins:
            headers = False
    yield Link(begin, size, damage=damage)
