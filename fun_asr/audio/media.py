"""Which files hold sound: by suffix, or where that says nothing, by their first bytes."""

from __future__ import annotations

import io
import os
import re
from typing import BinaryIO

__all__ = ["AUDIO_SUFFIXES", "may_hold_audio"]

AUDIO_SUFFIXES = frozenset({
    ".3g2", ".3ga", ".3gp", ".3gp2", ".3gpp", ".aa3", ".aac", ".ac3", ".adts", ".adx", ".aif", ".aifc", ".aiff",
    ".alac", ".amr", ".ape", ".aptx", ".asf", ".au", ".avi", ".avr", ".awb", ".bwf", ".caf", ".dif", ".divx", ".dsf",
    ".dts",
    ".dtshd", ".dv", ".dvr-ms", ".eac3", ".ec3", ".f4a", ".f4b", ".f4v", ".flac", ".flv", ".g722", ".gsm", ".gxf",
    ".ircam", ".loas", ".latm", ".m1v", ".m2a", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4a", ".m4b", ".m4p", ".m4r", ".m4v",
    ".mj2", ".mk3d", ".mka", ".mkv", ".mlp", ".mmf", ".mod", ".mov", ".mp+", ".mp1", ".mp2", ".mp3", ".mp4", ".mp4a",
    ".mp4v", ".mpa", ".mpc", ".mpe", ".mpeg", ".mpg", ".mpga", ".mpp", ".mpv", ".mts", ".mxf", ".nist", ".nut", ".oga",
    ".ogg", ".ogm", ".ogv", ".ogx", ".oma", ".opus", ".paf", ".pvf", ".qcp", ".qt", ".ra", ".ram", ".rf64", ".rm",
    ".rmvb", ".sbc", ".sd2", ".sds", ".sf", ".shn", ".snd", ".sph", ".spx", ".svx", ".tak", ".thd", ".tod", ".trp",
    ".ts", ".tta", ".vob", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wtv", ".wv", ".wve",
    ".xwma",
})  # fmt: skip
"""Suffixes, in lower case, of the files that a folder is searched for; a file named itself may have any."""

# Suffixes of which no file is opened to see what it is, so that a folder of a million notes is listed at once.
OTHER_SUFFIXES = frozenset({
    ".ass", ".avif", ".bak", ".bin", ".bmp", ".c", ".cfg", ".conf", ".css", ".csv", ".ctm", ".cue", ".db", ".doc",
    ".docx", ".eaf", ".gif", ".gz", ".h", ".heic", ".heif", ".html", ".ini", ".jpeg", ".jpg", ".js", ".json", ".jsonl",
    ".lab", ".lock", ".log", ".lrc", ".m3u", ".m3u8", ".md", ".md5", ".nfo", ".npy", ".npz", ".odt", ".part", ".pdf",
    ".pkl", ".pls", ".png", ".pptx", ".pt", ".py", ".rtf", ".rttm", ".safetensors", ".sh", ".sqlite", ".srt", ".ssa",
    ".stm", ".svg", ".tar", ".tex", ".textgrid", ".tiff", ".tmp", ".toml", ".trn", ".trs", ".tsv", ".txt", ".vtt",
    ".webp", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
})  # fmt: skip

LOOKED_AT = 64  # bytes
BEGINNINGS = re.compile(
    rb"RIFF....(WAVE|AVI )|RIFX....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|FORM....(AIF[FC]|8SVX|16SV)|caff\0\x01|"
    rb"OggS\0|fLaC|ID3[\x02-\x04]|#!AMR|\.snd|dns\.|NIST_1A\n|Creative Voice File|wvpk|TTA[12]|tBaK|MPCK|MP\+|MAC |"
    rb"DSD |FLV\x01|\.RMF|\.ra\xfd|\x1aE\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d|"
    rb"\0\0\x01\xba|\x0b\x77|\x7f\xfe\x80\x01|ajkg|nut/multimedia container\0|"
    rb"....(ftyp(?!heic|heix|mif1|msf1|avif|avis|crx |jp2 |jpx )|moov|mdat|wide)",
    re.DOTALL,
)


def may_hold_audio(path: str) -> bool:
    """Whether a file is to be taken for a recording.

    Arguments:
        path: of a regular file; only that of an unusual suffix, or without one, is opened.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in AUDIO_SUFFIXES:
        return True
    if suffix in OTHER_SUFFIXES:
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(LOOKED_AT)
            # A sync word alone is found in many a file; two packets at the right distance are not.
            return BEGINNINGS.match(head) is not None or _mpeg_frames(head + file.read(4096)) or _transport(file)
    except OSError:
        return False


BITRATES = {  # kbit/s of MPEG-1 layer III and of MPEG-2 layer III
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mpeg_frames(head: bytes) -> bool:
    """Whether an MP3 or ADTS frame is followed by another."""
    if len(head) < 7 or head[0] != 0xFF:
        return False
    if head[1] & 0xF6 == 0xF0:  # ADTS
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return 7 < length < len(head) - 1 and head[length : length + 2] == head[:2]
    if head[1] & 0xE6 != 0xE2 or head[2] >> 4 in (0, 15) or head[2] & 0x0C == 0x0C:
        return False
    version = head[1] >> 3 & 3
    rate = (44_100, 48_000, 32_000)[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}.get(version, 0)
    length = (144 if version == 3 else 72) * 1000 * BITRATES[version == 3][head[2] >> 4] // rate + (head[2] >> 1 & 1)
    return head[length : length + 2] == head[:2]


def _transport(file: BinaryIO | io.FileIO) -> bool:
    """Whether MPEG transport packets, of 188 or 192 bytes, follow each other."""
    file.seek(0)
    head = file.read(1200)
    return any(
        len(head) >= 5 * size + first and all(head[first + size * number] == 0x47 for number in range(5))
        for size, first in ((188, 0), (192, 4))
    )
