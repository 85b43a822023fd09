"""Folders to recordings, recordings to output files."""

import os
from pathlib import Path

import pytest

from fun_asr.inputs.discover import Inputs, Search, find_recordings, is_several, output_names


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def outputs(inputs: Inputs) -> list[str]:
    return list(output_names(inputs.recordings, inputs.folder).values())


def test_a_folder_is_searched_by_suffix_in_order_without_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.WAV", "a.mp3", "notes.txt", ".c.wav", ".git/d.wav", "sub/e.m4a", "sub/.f/g.wav")
    inputs = find_recordings([str(tmp_path)])
    assert [str(Path(path).relative_to(tmp_path)) for path in inputs.recordings] == ["a.mp3", "b.WAV", "sub/e.m4a"]
    assert inputs.failures == []
    assert outputs(inputs) == ["a", "b", "sub/e"]


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
        (["1.1 Lesson name", "1.2 Lesson name"], ["1.1 Lesson name", "1.2 Lesson name"]),
        (["1.1 Lesson name.mp3", "1.2 x.wav"], ["1.1 Lesson name", "1.2 x"]),
    ],
)
def test_no_two_recordings_share_an_output(names: list[str], expected: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    inputs = find_recordings([str(tmp_path / name) for name in names])
    assert outputs(inputs) == expected


def test_names_that_differ_in_case_alone_are_kept_apart(tmp_path: Path) -> None:
    touch(tmp_path, "Talk.wav", "talk.mp3")
    assert outputs(find_recordings([str(tmp_path)])) == ["Talk.wav", "talk.mp3"]


def test_names_that_only_case_tells_apart_are_numbered(tmp_path: Path) -> None:
    touch(tmp_path, "Talk.wav", "talk.wav", "cafe\u0301.wav", "caf\u00e9.wav")
    names = outputs(find_recordings([str(tmp_path)]))
    assert sorted(names) == sorted(["Talk.wav", "talk.wav.2", "cafe\u0301.wav", "caf\u00e9.wav.2"])


def test_earlier_names_stay_and_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.mp3", "b.wav")
    given = {str(tmp_path / "a.wav"): "a", "/gone/b.ogg": "b"}
    inputs = find_recordings([str(tmp_path)])
    names = output_names(inputs.recordings, inputs.folder, given)
    assert {Path(path).name: name for path, name in names.items()} == {"a.wav": "a", "a.mp3": "a.mp3", "b.wav": "b.wav"}


def test_outputs_stay_inside_the_output_folder(tmp_path: Path) -> None:
    assert output_names(["/x/talk.wav"], str(tmp_path)) == {"/x/talk.wav": "x/talk"}


def test_globs_choose_and_leave_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "a.mp3", "old/b.wav", "new/c.wav", "new/old/d.wav")

    def found(**options: tuple[str, ...] | bool) -> list[str]:
        inputs = find_recordings([str(tmp_path)], Search(**options))  # type: ignore[arg-type]
        return [str(Path(path).relative_to(tmp_path)) for path in inputs.recordings]

    assert found(include=("*.wav",), exclude=("old",)) == ["a.wav", "new/c.wav"]
    assert found(include=("new/*",)) == ["new/c.wav", "new/old/d.wav"]
    assert found(recursive=False) == ["a.mp3", "a.wav"]


def test_what_systems_leave_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "$RECYCLE.BIN/b.wav", "__MACOSX/c.wav", "@eaDir/d.wav", "._a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere")
    found = find_recordings([str(tmp_path)]).recordings
    assert [Path(path).name for path in found] == ["a.wav", "gone.wav"]


def test_a_pattern_that_the_shell_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "sub/b.wav", "[x].wav", "x.wav")
    found = [str(Path(path).relative_to(tmp_path)) for path in find_recordings([f"{tmp_path}/**/*.wav"]).recordings]
    assert found == ["[x].wav", "a.wav", "sub/b.wav", "x.wav"]
    assert find_recordings([f"{tmp_path}/[x].wav"]).recordings == [f"{tmp_path}/[x].wav"]
    assert find_recordings([f"{tmp_path}/*.ogg"]).recordings == [f"{tmp_path}/*.ogg"]


def test_standard_input_has_a_name(tmp_path: Path) -> None:
    assert outputs(find_recordings(["-"])) == ["stdin"]


def test_a_pattern_may_stand_for_several_and_a_name_with_brackets_for_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "[x].wav")
    assert is_several([f"{tmp_path}/*.wav"])
    assert is_several([str(tmp_path)])
    assert is_several(["a.wav", "b.wav"])
    assert not is_several([f"{tmp_path}/[x].wav"])
    assert not is_several(["-"])


@pytest.mark.parametrize(
    ("name", "command"),
    [("list.txt", "fun-asr batch - < {}"), ("rows.jsonl", "fun-asr batch {}"), ("wav.scp", "fun-asr batch {}")],
)
def test_a_list_named_as_a_recording_is_told_where_it_belongs(tmp_path: Path, name: str, command: str) -> None:
    path = tmp_path / name
    path.write_text("a.wav\n")
    inputs = find_recordings([str(path)])
    cause = "is text, not a recording; a list of recordings is for batch: " + command.format(path)
    assert (inputs.recordings, [str(error) for error in inputs.failures]) == ([], [f"{path}: {cause}"])
