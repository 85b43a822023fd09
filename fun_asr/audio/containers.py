"""What containers promise of their length and content, so that what is missing is known."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

__all__ = [
    "Damage",
    "OggPage",
    "find_damage",
    "is_mpeg",
    "mp3_frames",
    "mp3_tag_at",
    "ogg_pages",
    "wave_data",
]

STREAMED_BYTES = 0x7FFF0000  # pipes cannot seek back, so their headers claim about 2 or 4 GiB, or nothing
XING_SLACK = 4096  # bytes: editing the tags of an MP3 file leaves its byte count a little wrong


@dataclass(frozen=True)
class Damage:
    """What a file's own sizes and checksums say is wrong with it."""

    cause: str
    """Empty where nothing is wrong."""
    missing: float = 0.0
    """Part of what was promised that the file has not; 0 where that is not known."""
    next: int = 0
    """Byte at which another recording begins; 0 where none is known."""


def is_mpeg(file: BinaryIO) -> bool:
    """MPEG audio goes to PyAV: libsndfile resynchronises over lost frames and writes notes to stderr."""
    file.seek(0)
    head = file.read(3)
    file.seek(0)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def find_damage(file: BinaryIO) -> Damage | None:
    """What a file's own sizes say is missing, or None; decoders pass over it in silence.

    FLAC is left to its decoder, which notices, and Ogg to `ogg_pages`. MPEG-TS, ADTS, ASF and AVI carry no such promise
    that can be relied on.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64).ljust(64, b"\0")
    end: int | None = None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        end = _wave_end(file, size)
    elif head[:4] == b"caff":
        end = _caf_end(file, size)
    elif head[:4] == b"RF64" and head[12:16] == b"ds64":
        end = 8 + int.from_bytes(head[20:28], "little")
    elif head[:4] == b"riff":
        end = int.from_bytes(head[16:24], "little")
    elif head[:4] == b"FORM":
        end = 8 + int.from_bytes(head[4:8], "big")
    elif head[:4] == b".snd":
        end = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
    elif head[:4] == b"\x1aE\xdf\xa3":
        return _matroska_damage(file, size)
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        end = _mp4_end(file, size)
    elif is_mpeg(file):
        end = _mp3_end(file)
    streamed = end is not None and head[:1] in b"RF." and head[:4] != b"RF64" and end >= STREAMED_BYTES
    if end is None or streamed or end <= size:
        return None
    return Damage(
        f"cut short: its header promises {end} bytes and the file has {size}",
        missing=(end - size) / end,
    )


def wave_data(file: BinaryIO) -> tuple[int, int, int] | None:
    """The data chunk of a WAV file: where its samples begin, its stated length, and bytes a second."""
    size = file.seek(0, io.SEEK_END)
    position, byte_rate = 12, 0
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return position + 8, length, byte_rate
        if name == b"fmt ":
            byte_rate = int.from_bytes(file.read(16)[8:12], "little")
        position += 8 + length + length % 2
    return None


def _wave_end(file: BinaryIO, size: int) -> int | None:
    """Where the data chunk says it ends (bytes); what follows it is not audio, and the RIFF size is often wrong.

    Recorders write the file's length, or that without eight bytes, for the length of the data: nothing is missing then.
    """
    data = wave_data(file)
    if data is None:
        return None
    start, length, _ = data
    return size if start + length > size >= length else start + length


def _caf_end(file: BinaryIO, size: int) -> int | None:
    """Where the data chunk says it ends, bytes; None where its length was left open."""
    position = 8
    while position + 12 <= size:
        file.seek(position)
        name, length = struct.unpack(">4sq", file.read(12))
        if length < 0:
            return None
        position += 12 + length
        if name == b"data":
            return int(position)
    return None


MP4_BOXES = (
    b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"mdat", b"free", b"skip", b"wide", b"meta", b"uuid", b"udta", b"sidx",
    b"ssix", b"emsg", b"prft", b"pdin", b"pnot",
)  # fmt: skip


def _mp4_end(file: BinaryIO, size: int) -> int | None:
    """Where the last top-level box says it ends, bytes (ISO/IEC 14496-12, 4.2); a tag behind it is none."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if position and name not in MP4_BOXES:
            return None
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end of the file; the rest: not a box
            return None
        position += length
    return position


MATROSKA_HEADER = b"\x1aE\xdf\xa3"
MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
MATROSKA_MEDIA = (MATROSKA_CLUSTER, b"\xa0", b"\xa3")  # and blocks


def _matroska_damage(file: BinaryIO, size: int) -> Damage | None:
    """None where every element ends where the next one begins (RFC 8794, 4 to 6), else what is wrong.

    Where one does not, decoders skip to the next cluster they can find. What stands inside blocks of samples is left to
    them. A recorder that was stopped leaves a segment without a length, and perhaps the beginning of a last element.
    """
    position, end = 0, size
    recorded_live = in_segment = False
    while position < end:
        place = f"damaged at byte {position}"
        file.seek(position)
        header = file.read(12)
        name_width = 9 - header[0].bit_length()
        name, rest = header[:name_width], header[name_width:]
        width = 9 - rest[0].bit_length() if rest else 9
        if not 1 <= len(name) <= 4 or width > len(rest):
            if recorded_live and position + 12 > size:
                return None
            return Damage(f"{place}: no Matroska element where one should begin")
        if name == MATROSKA_HEADER and in_segment:
            return Damage("", next=position)
        open_ended = (1 << 7 * width) - 1
        length = int.from_bytes(rest[:width], "big") & open_ended
        position += len(name) + width
        if length == open_ended:
            if name not in (MATROSKA_SEGMENT, MATROSKA_CLUSTER):
                return Damage(f"{place}: a Matroska element without a length")
            recorded_live = recorded_live or name == MATROSKA_SEGMENT
            in_segment = True
            continue
        if position + length > size and not (recorded_live and name in MATROSKA_MEDIA):
            return Damage(
                f"cut short or damaged: an element promises {position + length} bytes and the file has {size}",
                missing=(position + length - size) / (position + length) if name == MATROSKA_SEGMENT else 0.0,
            )
        if name == MATROSKA_SEGMENT:
            end, in_segment = position + length, True
        elif name != MATROSKA_CLUSTER:
            position += length
    file.seek(end)
    return Damage("", next=end) if end < size and file.read(4) == MATROSKA_HEADER else None


def _mp3_tag(file: BinaryIO) -> tuple[int, int | None, int | None] | None:
    """The Xing/Info tag of the first frame: where that frame begins, and the frames and bytes that it counts."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(64)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or at < 0 or at + 16 > len(frame):
        return None
    flags, first, second = struct.unpack(">III", frame[at + 4 : at + 16])
    frames = first if flags & 1 else None
    length = (second if flags & 1 else first) if flags & 2 else None
    return start, frames, length


def mp3_frames(file: BinaryIO) -> int | None:
    """Frames that the Xing/Info tag counts, itself excepted; None without one."""
    tag = _mp3_tag(file)
    return tag[1] if tag else None


def _mp3_end(file: BinaryIO) -> int | None:
    """Where the Xing/Info tag says the stream ends, bytes; None without one."""
    tag = _mp3_tag(file)
    return int(tag[0] + tag[2] - XING_SLACK) if tag and tag[2] is not None else None


def mp3_tag_at(file: BinaryIO, at: int) -> int | None:
    """Where the frame begins whose Xing/Info tag stands at that byte; None where it is in no frame's place."""
    for distance in (36, 21, 13):  # MPEG-1 stereo; MPEG-1 mono or MPEG-2 stereo; MPEG-2 mono
        file.seek(max(0, at - distance))
        header = file.read(4)
        if at >= distance and len(header) == 4 and header[0] == 0xFF and header[1] & 0xE6 == 0xE2:
            first_version, mono = header[1] & 0x18 == 0x18, header[3] & 0xC0 == 0xC0
            if distance == 4 + ((17 if mono else 32) if first_version else (9 if mono else 17)):
                return at - distance
    return None


REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OggPage(NamedTuple):
    """A page of an Ogg file, or a stretch where there should be one."""

    start: int
    begins: bool
    """Whether a stream begins with it."""
    damage: Damage | None


def ogg_pages(file: BinaryIO, start: int = 0) -> Iterator[OggPage]:
    """Every page that is whole and matches its checksum (RFC 3533, 6), and what is found in place of one.

    A missing end-of-stream flag alone is no damage: a recorder that was stopped leaves whole pages. Nor is what follows
    the page that has it, unless it is a page.
    """
    file.seek(start)
    position, ended = start, False
    while header := file.read(27):
        cause = ""
        place = f"at byte {position}"
        lacing = file.read(header[26]) if len(header) == 27 else b""
        body = file.read(sum(lacing))
        length = len(header) + len(lacing) + len(body)
        if header[:4] != b"OggS":
            cause = f"damaged {place}: no Ogg page where one should begin"
        elif len(header) < 27 or len(lacing) < header[26] or len(body) < sum(lacing):
            cause = f"cut short {place}: the last Ogg page is not complete"
        else:
            page = header[:22] + b"\0\0\0\0" + header[26:] + lacing + body
            # zlib's CRC-32 has Ogg's polynomial with the bits of every byte, and of the result, in the other order.
            checksum = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
            if int(f"{checksum:032b}"[::-1], 2) != int.from_bytes(header[22:26], "little"):
                cause = f"damaged {place}: the Ogg page does not match its checksum"
        if not cause:
            yield OggPage(position, bool(header[5] & 2), None)
            position, ended = position + length, bool(header[5] & 4)
            continue
        following = _next_ogg_page(file, position + 1)
        if not (ended and (following is None or header[:4] != b"OggS")):
            yield OggPage(position, False, Damage(cause))
        if following is None:
            return
        position = following
        file.seek(position)


def _next_ogg_page(file: BinaryIO, start: int) -> int | None:
    file.seek(start)
    held = b""
    while block := file.read(1 << 16):
        data = held + block
        if (at := data.find(b"OggS\0")) >= 0:
            return start + at
        held = data[-4:]
        start += len(data) - len(held)
    return None
