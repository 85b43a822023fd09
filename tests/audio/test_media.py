"""Which files in folders are recordings; links, and what is left out."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fun_asr.audio.media import may_hold_audio
from fun_asr.inputs.discover import Search, describe_left_out, find_recordings


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16_000, np.float32), 16_000, format=format)
    return buffer.getvalue()


def found(folder: Path, *arguments: str, search: Search | None = None) -> list[str]:
    inputs = find_recordings(list(arguments) or [str(folder)], search)
    return sorted(os.path.relpath(path, folder) for path in inputs.recordings)


@pytest.mark.parametrize(
    "suffix",
    [".mxf", ".vob", ".awb", ".3gpp", ".m4r", ".f4v", ".mp4a", ".bwf", ".qt", ".dv", ".MXF", ".mka", ".mts", ".nut"],
)
def test_unusual_suffixes_are_taken(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    assert found(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize("name", ["a", "a.recording", "2024.01.31"])
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "W64", "RF64"])
def test_content_decides_where_the_suffix_says_nothing(tmp_path: Path, name: str, format: str) -> None:
    (tmp_path / name).write_bytes(encoded(format))
    assert found(tmp_path) == [name]


@pytest.mark.parametrize(
    "content",
    [b"", b"text\n", b"{}", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\xff\xd8\xff\xe0\0\x10JFIF", b"%PDF-1.7",
     b"\0\0\0\x18ftypheic" + bytes(40), b"\x1f\x8b", b"\xff\xfe" + "text".encode("utf-16-le"), bytes(4000),
     b"RIFF\0\0\0\0WEBP"],
)  # fmt: skip
def test_what_is_no_recording_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.unknown").write_bytes(content)
    assert not may_hold_audio(str(tmp_path / "a.unknown"))


def test_what_is_left_out_is_said_in_a_line(tmp_path: Path) -> None:
    for name in ("a.wav", "a.txt", "b.txt", "c.JSON", "README", ".hidden.txt"):
        (tmp_path / name).touch()
    inputs = find_recordings([str(tmp_path)])
    line = describe_left_out(inputs.left_out)
    assert line == "4 files left out that are no recording: 2 .txt, 1 without suffix, 1 .json"
    only = find_recordings([str(tmp_path / "a.wav")])
    assert describe_left_out(only.left_out) is None


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.wav").touch()
    (folder / "sub" / "b.wav").touch()
    (folder / "link").symlink_to(outside)
    (folder / "again").symlink_to(outside)
    (folder / "sub" / "up").symlink_to(folder)
    assert found(folder) == ["again/a.wav", "sub/b.wav"]
    assert found(folder, search=Search(exclude=("again",))) == ["link/a.wav", "sub/b.wav"]


def test_a_loop_in_a_pattern_names_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert found(tmp_path, str(tmp_path / "**" / "*.wav")) == ["sub/a.wav"]
    assert found(tmp_path, str(tmp_path / "**")) == ["sub/a.wav"]


def test_a_linked_file_is_a_recording_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    assert found(tmp_path) == ["a.wav", "b.wav"]
