"""Kaldi's data directories: what their files say of each utterance, and what in them is named because it is no use."""

from pathlib import Path

import pytest

from fun_asr.audio.excerpt import Excerpt
from fun_asr.inputs.kaldi import is_data_dir, read_data_dir
from fun_asr.inputs.manifest import read_rows


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / name.replace("_scp", ".scp")).write_text(content, encoding="utf-8")
    return folder


def test_segments_are_parts_of_recordings(tmp_path: Path) -> None:
    write(
        tmp_path,
        wav_scp="rec1   /x/a b.wav\nrec2 /x/c.wav\n",
        segments="u1 rec1 0.5 2.25\nu2 rec2 3 -1\n",
        text="u1 grüße an alle\nu2\n",
        utt2spk="u1 spk\nu2 spk2\n",
        utt2lang="u1 de\n",
    )
    rows, errors = read_rows(tmp_path)
    assert errors == []
    assert [row.source for row in rows] == [Excerpt("/x/a b.wav", 0.5, 1.75), Excerpt("/x/c.wav", 3.0, None)]
    assert [(row.name, row.speaker, row.language) for row in rows] == [("u1", "spk", "de"), ("u2", "spk2", None)]
    assert rows[0].fields == {
        "id": "u1", "offset": 0.5, "duration": 1.75, "speaker": "spk", "language": "de", "text": "grüße an alle",
    }  # fmt: skip
    assert rows[1].fields["text"] == ""
    assert rows[1].place == f"{tmp_path / 'segments'}:2"


def test_without_segments_a_recording_is_an_utterance(tmp_path: Path) -> None:
    write(tmp_path, wav_scp="u1 /x/a.wav\n", text="u1 one\n")
    ((row,), errors) = read_data_dir(tmp_path)
    assert (row.source, row.fields, errors) == ("/x/a.wav", {"id": "u1", "text": "one"}, [])


@pytest.mark.parametrize(
    ("files", "messages"),
    [
        ({"wav_scp": "a sox x.wav -t wav - |\n"}, ["wav.scp:1: a is a command (sox x.wav -t wav - |)"]),
        ({"wav_scp": "a raw.ark:1234\n"}, ["wav.scp:1: a is a part of an archive (raw.ark:1234)"]),
        ({"wav_scp": "a /x.wav\n", "segments": "u b 0 1\n"}, ["segments:1: the recording b is not in wav.scp"]),
        ({"wav_scp": "a /x.wav\n", "segments": "u a 0\n"}, ["segments:1: needs an utterance, a recording, start"]),
        ({"wav_scp": "a /x.wav\n", "segments": "u a 2 1\n"}, ["segments:1: duration must be more than 0 seconds"]),
        ({"wav_scp": "\n"}, ["wav.scp: is a list without recordings"]),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, files: dict[str, str], messages: list[str]) -> None:
    errors = read_data_dir(write(tmp_path, **files))[1]
    assert [message in str(error) for message, error in zip(messages, errors, strict=True)] == [True] * len(messages)
    assert all(str(error).startswith(str(tmp_path)) for error in errors)


def test_a_text_that_is_no_text_is_named(tmp_path: Path) -> None:
    write(tmp_path, wav_scp="a /x.wav\n")
    (tmp_path / "text").write_bytes(b"a gr\xfc\xdfe\n")
    ((row,), (error,)) = read_data_dir(tmp_path)
    assert "text" not in row.fields
    assert str(error) == f"{tmp_path / 'text'}: is not UTF-8; convert it, for example with iconv"


def test_a_folder_without_wav_scp_is_none(tmp_path: Path) -> None:
    assert not is_data_dir(tmp_path)
    assert str(read_rows(tmp_path)[1][0]) == f"{tmp_path}: is a folder without wav.scp, so none of Kaldi's data"
