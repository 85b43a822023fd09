"""Texts of other programs, with their byte order marks."""

from pathlib import Path

import pytest

from fun_asr.text.encodings import decoded, is_text, without_mark

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_mark_says_what_the_text_is_in(encoding: str, tmp_path: Path) -> None:
    content = "Zuse, Łódź\r\nπ".encode(encoding)
    assert decoded(content) == "Zuse, Łódź\r\nπ"
    assert without_mark(content) == "Zuse, Łódź\r\nπ".encode()
    (tmp_path / "list").write_bytes(content)
    assert is_text(str(tmp_path / "list"))


def test_big_endian() -> None:
    assert decoded(b"\xfe\xff" + "Zuse".encode("utf-16-be")) == "Zuse"


def test_names_that_are_not_utf8_stay() -> None:
    assert without_mark(b"/x/\xe9.wav\n") == b"/x/\xe9.wav\n"


@pytest.mark.parametrize("content", [b"", b"RIFF\0\0\0\0WAVE", b"\xff\xfb\x90\x64", "é".encode("latin-1")])
def test_what_is_no_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_text(str(tmp_path / "x"))


def test_a_character_cut_by_the_end_of_what_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a" * 4095 + "é" * 10, encoding="utf-8")
    assert is_text(str(tmp_path / "x"))
