"""Hotwords from a command line, a file and Python."""

from pathlib import Path
from typing import Any

import pytest

from fun_asr.errors import ConfigError
from fun_asr.text.hotwords import Hotword, checked_hotwords, parse_hotwords


def test_phrases_with_commas_between_them() -> None:
    assert parse_hotwords(" Ada  Lovelace,Zuse,, ") == (Hotword("Ada Lovelace", 1.0), Hotword("Zuse", 1.0))


def test_a_file_has_phrases_comments_and_weights(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes("\ufeff# people\n\nAda Lovelace\t2.5\r\n  # not this\nCafé, Zuse\nC#\t\n".encode())
    assert parse_hotwords(str(path)) == (Hotword("Ada Lovelace", 2.5), Hotword("Café, Zuse", 1.0), Hotword("C#", 1.0))


def test_of_the_same_phrase_the_last_counts() -> None:
    assert checked_hotwords([("a b", 2.0), "c", "a  b"]) == (Hotword("c", 1.0), Hotword("a b", 1.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Zuse\nAda\tmuch\n", r"names:2: weight 'much' is not a number$"),
        (b"Ada\tnan\n", r"names:1: hotword 'Ada' has weight nan; it must be above 0, at most 10$"),
        (b"Ada\t-1\n", r"names:1: hotword 'Ada' has weight -1; "),
        (b"Ada\t11\n", r"names:1: hotword 'Ada' has weight 11; "),
        (b"x" * 101, r"names:1: hotword 'x{37}\.\.\.' has 101 characters; at most 100 will do$"),
        (b"Ada\n --\n", r"names:2: hotword ' --' has no letter or digit$"),
        (b"# nobody\n\n", r"names: has no hotwords; write one phrase a line$"),
        (b"", r"names: has no hotwords; "),
        (b"\xff\xfe\n", r"names: not UTF-8 text, as a list of hotwords must be$"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "names").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        parse_hotwords(str(tmp_path / "names"))


@pytest.mark.parametrize(
    "hotwords", [None, [3], ("Ada", 1.5), [("a", 1, 2)], [("x", "heavy")], {"Ada": 2.0}, ["<|en|>"], "Ada"]
)
def test_what_is_no_list_of_phrases_is_refused(hotwords: Any) -> None:
    with pytest.raises(ConfigError, match="hotword"):
        checked_hotwords(hotwords)


def test_letters_are_composed_so_that_one_name_is_one() -> None:
    assert checked_hotwords(["Jose\u0301", "Jos\u00e9"]) == (Hotword("Jos\u00e9", 1.0),)


@pytest.mark.parametrize("argument", ["", " , ,"])
def test_an_empty_list_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="no hotwords given"):
        parse_hotwords(argument)


@pytest.mark.parametrize("argument", ["names.txt", "lists/names.csv", "./names", "../names", "/lists/names", "~/names"])
def test_a_file_that_is_not_there_is_no_phrase(argument: str) -> None:
    with pytest.raises(ConfigError, match=f"^{argument}: no file that can be read$"):
        parse_hotwords(argument)


def test_a_folder_is_a_phrase_and_a_long_list_no_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recordings").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_hotwords("recordings") == (Hotword("recordings"),)
    assert len(parse_hotwords(",".join(f"name{i}" for i in range(2000)))) == 2000


def test_a_single_text_is_no_list() -> None:
    with pytest.raises(ConfigError, match="must be a list of phrases"):
        checked_hotwords("Ada, Zuse")


def test_a_phrase_may_have_a_slash_unless_it_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_hotwords("TCP/IP") == (Hotword("TCP/IP"),)
    (tmp_path / "TCP").mkdir()
    assert parse_hotwords("TCP/IP") == (Hotword("TCP/IP"),)
    (tmp_path / "TCP" / "IP").write_text("socket\n")
    assert parse_hotwords("TCP/IP") == (Hotword("socket"),)


def test_a_file_of_notepad(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("Łódź\t2\r\nZuse\r\n".encode("utf-16"))
    assert parse_hotwords(str(tmp_path / "names.txt")) == (Hotword("Łódź", 2.0), Hotword("Zuse"))
