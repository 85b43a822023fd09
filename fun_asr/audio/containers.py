"""What containers promise of their length and content, so that files which are not whole are refused."""

from __future__ import annotations

import io
import os
import struct
import zlib

__all__ = ["AUDIO_SUFFIXES", "find_damage", "is_mpeg"]

AUDIO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".dts",
    ".eac3", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4",
    ".mpc", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".snd", ".sph", ".spx", ".tak",
    ".tta", ".ts", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
})  # fmt: skip
"""Suffixes, in lower case, of the files that a folder is searched for; a file named itself may have any."""

STREAMED_BYTES = 0x7FFF0000  # pipes cannot seek back, so their headers claim about 2 or 4 GiB, or nothing
XING_SLACK = 4096  # bytes: editing the tags of an MP3 file leaves its byte count a little wrong


def is_mpeg(file: io.BufferedReader) -> bool:
    """MPEG audio goes to PyAV: libsndfile resynchronises over lost frames and writes notes to stderr."""
    file.seek(0)
    head = file.read(3)
    file.seek(0)
    return head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def find_damage(file: io.BufferedReader) -> str | None:
    """What a file's own sizes and checksums say is missing, or None; decoders pass over it in silence.

    FLAC is left to its decoder, which notices. MPEG-TS, ADTS, ASF and AVI carry no such promise that can be relied on.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(64).ljust(64, b"\0")
    end: int | None = None
    if head[:4] == b"OggS":
        return _ogg_damage(file)
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
    return f"cut short: its header promises {end} bytes and the file has {size}; copy or download it again"


def _wave_end(file: io.BufferedReader, size: int) -> int | None:
    """Where the data chunk says it ends (bytes); what follows it is not audio, and the RIFF size is often wrong."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return int(position + 8 + length)
        position += 8 + length + length % 2
    return None


def _caf_end(file: io.BufferedReader, size: int) -> int | None:
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


def _mp4_end(file: io.BufferedReader, size: int) -> int | None:
    """Where the last top-level box says it ends, bytes (ISO/IEC 14496-12, 4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length = int.from_bytes(file.read(4), "big")
        if length == 1:
            file.seek(4, io.SEEK_CUR)
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end of the file; the rest: not a box
            return None
        position += length
    return position


MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
MATROSKA_MEDIA = (MATROSKA_CLUSTER, b"\xa0", b"\xa3")  # and blocks


def _matroska_damage(file: io.BufferedReader, size: int) -> str | None:
    """None where every element ends where the next one begins (RFC 8794, 4 to 6), else what is wrong.

    Where one does not, decoders skip to the next cluster they can find. What stands inside blocks of samples is left to
    them. A recorder that was stopped leaves a segment without a length, and perhaps the beginning of a last element.
    """
    position, end = 0, size
    recorded_live = False
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
            return f"{place}: no Matroska element where one should begin"
        open_ended = (1 << 7 * width) - 1
        length = int.from_bytes(rest[:width], "big") & open_ended
        position += len(name) + width
        if length == open_ended:
            if name not in (MATROSKA_SEGMENT, MATROSKA_CLUSTER):
                return f"{place}: a Matroska element without a length"
            recorded_live = recorded_live or name == MATROSKA_SEGMENT
            continue
        if position + length > size and not (recorded_live and name in MATROSKA_MEDIA):
            return (
                f"cut short or damaged: an element promises {position + length} bytes and the file has {size}; "
                "copy or download it again"
            )
        if name == MATROSKA_SEGMENT:
            end = position + length
        elif name != MATROSKA_CLUSTER:
            position += length
    return None


def _mp3_end(file: io.BufferedReader) -> int | None:
    """Where the Xing/Info tag of the first frame says the stream ends, bytes; None without one."""
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
    if not flags & 2:
        return None
    return int(start + (second if flags & 1 else first) - XING_SLACK)


REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_damage(file: io.BufferedReader) -> str | None:
    """Every page is there and matches its checksum (RFC 3533, 6).

    A missing end-of-stream flag alone is no damage: a recorder that was stopped leaves whole pages.
    """
    file.seek(0)
    ended = False
    while header := file.read(27):
        place = f"at byte {file.tell() - len(header)}"
        if header[:4] != b"OggS":
            return None if ended else f"damaged {place}: no Ogg page where one should begin"
        lacing = file.read(header[26]) if len(header) == 27 else b""
        body = file.read(sum(lacing))
        if len(header) < 27 or len(lacing) < header[26] or len(body) < sum(lacing):
            return f"cut short {place}: the last Ogg page is not complete; copy or download it again"
        page = header[:22] + b"\0\0\0\0" + header[26:] + lacing + body
        # zlib's CRC-32 has Ogg's polynomial with the bits of every byte, and of the result, in the other order.
        checksum = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if int(f"{checksum:032b}"[::-1], 2) != int.from_bytes(header[22:26], "little"):
            return f"damaged {place}: the Ogg page does not match its checksum"
        ended = bool(header[5] & 4)
    return None
