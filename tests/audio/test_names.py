"""What recordings are called."""

import os
from pathlib import Path

import pytest

from fun_asr.audio.names import as_field, short_names, stem


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("talk.wav", "talk"),
        ("x/talk.MP3", "x/talk"),
        ("1.1 Lesson name", "1.1 Lesson name"),
        ("1.1 Lesson name.mp3", "1.1 Lesson name"),
        ("v2.0/talk", "v2.0/talk"),
        ("talk.final", "talk.final"),
        ("camera.mxf", "camera"),
        (".wav", ".wav"),
    ],
)
def test_only_the_suffix_of_a_medium_is_cut_off(path: str, expected: str) -> None:
    assert stem(path) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/d/talk.wav"], ["talk"]),
        (["/d/x/talk.wav", "/d/y/talk.wav"], ["x/talk", "y/talk"]),
        (["/d/a/x/t.wav", "/d/b/x/t.wav", "/d/c/t.wav", "/d/c/o.wav"], ["a/x/t", "b/x/t", "c/t", "o"]),
        (["/d/talk.wav", "/d/x/talk.wav"], ["d/talk", "x/talk"]),
        (["/d/talk.wav", "/d/talk.mp3"], ["talk.wav", "talk.mp3"]),
        (["/talk.wav", "/x/talk.wav"], ["talk", "x/talk"]),
        (["/d/my talk.wav", "/d/my_talk.wav"], ["d/my talk.wav", "d/my_talk.wav.2"]),
    ],
)
def test_a_name_is_as_short_as_tells_recordings_apart(paths: list[str], expected: list[str]) -> None:
    names = short_names(paths)
    assert list(names.values()) == expected
    assert len({as_field(name) for name in names.values()}) == len(paths)


def test_relative_paths_are_found_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_names(["a.wav", os.path.join("x", "a.wav")]) == {"a.wav": f"{tmp_path.name}/a", "x/a.wav": "x/a"}
