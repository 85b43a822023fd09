"""Folders to recordings, recordings to output files."""

from pathlib import Path

import pytest

from fun_asr.batch.discover import Inputs, find_recordings, output_paths


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def outputs(inputs: Inputs) -> list[str]:
    return [str(path) for path in output_paths(inputs, Path("out"), ".txt").values()]


def test_a_folder_is_searched_by_suffix_in_order_without_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.WAV", "a.mp3", "notes.txt", ".c.wav", ".git/d.wav", "sub/e.m4a", "sub/.f/g.wav")
    inputs = find_recordings([str(tmp_path)])
    assert [str(Path(path).relative_to(tmp_path)) for path in inputs.recordings] == ["a.mp3", "b.WAV", "sub/e.m4a"]
    assert inputs.failures == []
    assert outputs(inputs) == ["out/a.txt", "out/b.txt", "out/sub/e.txt"]


def test_a_named_file_is_taken_whatever_its_name_and_only_once(tmp_path: Path) -> None:
    touch(tmp_path, ".odd", "a.wav")
    odd, wav, missing = (str(tmp_path / name) for name in (".odd", "a.wav", "missing.wav"))
    assert find_recordings([odd, missing, wav, str(tmp_path), wav, "-", "-"]).recordings == [odd, missing, wav, "-"]


def test_a_folder_without_recordings_is_a_failure(tmp_path: Path) -> None:
    inputs = find_recordings([str(tmp_path)])
    assert inputs.recordings == []
    assert [str(error) for error in inputs.failures] == [f"{tmp_path}: is a folder without audio or video files"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/x.wav"], ["x"]),
        (["a/x.wav", "a/y.wav"], ["x", "y"]),
        (["a/x.wav", "b/x.wav"], ["a/x", "b/x"]),
        (["x.wav", "x.mp3", "y.wav"], ["x.wav", "x.mp3", "y"]),
        (["x.wav", "x.mp3", "x.wav.flac"], ["x.wav", "x.mp3", "x.wav.flac"]),
        (["a.b/x", "a/x.wav"], ["a.b/x", "a/x"]),
    ],
)
def test_no_two_recordings_share_an_output(names: list[str], expected: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    inputs = find_recordings([str(tmp_path / name) for name in names])
    assert outputs(inputs) == [f"out/{name}.txt" for name in expected]


def test_names_that_differ_in_case_alone_are_kept_apart(tmp_path: Path) -> None:
    touch(tmp_path, "Talk.wav", "talk.mp3")
    assert outputs(find_recordings([str(tmp_path)])) == ["out/Talk.wav.txt", "out/talk.mp3.txt"]


def test_standard_input_has_a_name(tmp_path: Path) -> None:
    assert outputs(find_recordings(["-"])) == ["out/stdin.txt"]
