"""Transcripts as files."""

import json
import os
from pathlib import Path

import pytest

from fun_asr.files import write_atomically
from fun_asr.transcript import Segment, Transcript
from fun_asr.writers.base import encoded
from fun_asr.writers.formats import OUTPUT_FORMATS, make_writers
from fun_asr.writers.subtitles import SubtitleOptions

WRITERS = make_writers(OUTPUT_FORMATS, SubtitleOptions())


def transcript(*texts: str, language: str | None = "en", path: str | None = "talk.wav") -> Transcript:
    segments = tuple(
        Segment(start=i, end=i + 1, text=text, language=language, language_probability=0.5, score=-0.25)
        for i, text in enumerate(texts)
    )
    return Transcript(path=path, duration=len(texts), language=language, language_probability=0.5, segments=segments)


def test_the_text_skips_what_is_empty_and_joins_as_the_language_does() -> None:
    assert transcript("One.", "", "Two.").text == "One. Two."
    assert transcript("一。", "二。", language="zh").text == "一。二。"
    assert transcript("", language=None).text == ""


def test_txt_is_one_line(tmp_path: Path) -> None:
    WRITERS["txt"].write(transcript("Grüße.", "Two."), tmp_path / "talk.txt")
    assert (tmp_path / "talk.txt").read_text(encoding="utf-8") == "Grüße. Two.\n"


def test_json_holds_text_language_and_segments(tmp_path: Path) -> None:
    WRITERS["json"].write(transcript("Grüße."), tmp_path / "talk.json")
    content = (tmp_path / "talk.json").read_text(encoding="utf-8")
    assert "Grüße." in content
    assert json.loads(content) == {
        "path": "talk.wav",
        "duration": 1,
        "language": "en",
        "language_probability": 0.5,
        "text": "Grüße.",
        "spoken": "",
        "word_times": False,
        "cut": {"silent_segments": 0, "loops": 0, "words": 0},
        "incomplete": False,
        "lost": [],
        "warnings": [],
        "model": None,
        "segments": [
            {
                "start": 0,
                "end": 1,
                "channel": None,
                "track": None,
                "text": "Grüße.",
                "spoken": "",
                "language": "en",
                "language_probability": 0.5,
                "score": -0.25,
                "tags": {},
                "words": [],
            }
        ],
        "chunks": [],
    }


def test_times_are_rounded_to_milliseconds() -> None:
    piece = Segment(start=1 / 3, end=2 / 3, text="x", language=None, language_probability=None, score=None)
    assert (piece.to_dict()["start"], piece.to_dict()["end"]) == (0.333, 0.667)


def test_a_name_that_is_not_utf8_survives_json() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    line = encoded(WRITERS["json"].line(transcript("x", path=name)) or "")
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line.decode("utf-8"))["path"] == name


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", b"old")
    write_atomically(tmp_path / "a" / "b.txt", b"new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"new"


def test_a_failed_write_keeps_the_old_file_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.txt").write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(tmp_path / "b.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    assert (tmp_path / "b.txt").read_bytes() == b"old"


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 251 + ".txt"), b"")
    assert len(list(tmp_path.iterdir())) == 1
