"""What the inputs of a batch stand for."""

import io
import json
import os
from pathlib import Path

import pytest

from fun_asr.inputs.discover import Search
from fun_asr.inputs.sources import Sources, find_sources


def find(*arguments: str | Path, stdin: bytes = b"") -> Sources:
    return find_sources([str(argument) for argument in arguments], Search(), io.BytesIO(stdin))


def paths(sources: Sources) -> list[str]:
    return [recording.path for recording in sources.recordings]


def test_a_manifest_gives_languages_and_keeps_its_keys(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "a.wav", "language": "German", "text": "eins"},
        {"audio_filepath": "/x/b.wav"},
        {"audio_filepath": "./a.wav", "language": "en"},
    ]
    manifest = tmp_path / "list.json"
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\n{\n")
    sources = find(manifest)
    assert paths(sources) == [str(tmp_path / "a.wav"), "/x/b.wav"]
    assert [recording.language for recording in sources.recordings] == ["de", None]
    assert sources.recordings[0].info.fields["text"] == "eins"
    assert (sources.repeated, sources.folder) == (1, "/")
    assert [str(error) for error in sources.failures] == [f"{manifest}:4: is not JSON"]


def test_wav_scp_gives_names_and_refuses_commands(tmp_path: Path) -> None:
    scp = tmp_path / "wav.scp"
    scp.write_text("utt1 /x/a b.wav\nutt2 sox in.wav -t wav - |\n\nutt3\n")
    sources = find(scp)
    assert [(r.path, r.info.name) for r in sources.recordings] == [("/x/a b.wav", "utt1")]
    assert [str(error) for error in sources.failures] == [
        f"{scp}:2: utt2 is a command (sox in.wav -t wav - |); only files are read, so run it first",
        f"{scp}:4: needs an utterance id and a path",
    ]


def test_lists_on_standard_input(tmp_path: Path) -> None:
    assert paths(find("-", stdin=b"/x/b.wav\r\n\n/x/a \xe9.wav\n")) == ["/x/b.wav", os.fsdecode(b"/x/a \xe9.wav")]
    assert paths(find("-", stdin=b"/x/two\nlines.wav\0/x/b.wav\0")) == ["/x/two\nlines.wav", "/x/b.wav"]
    assert paths(find("-", stdin=b'{"audio_filepath": "/x/c.wav"}\n')) == ["/x/c.wav"]
    assert str(find("-").failures[0]) == "standard input: is a list without recordings"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.wav").touch()
    assert paths(find("-", stdin=os.fsencode(tmp_path))) == [str(tmp_path / "sub" / "d.wav")]


@pytest.mark.parametrize("name", ["no.jsonl", "no.scp"])
def test_a_missing_list_is_a_failure(tmp_path: Path, name: str) -> None:
    assert str(find(tmp_path / name).failures[0]) == f"{tmp_path / name}: No such file or directory"


def test_a_recording_in_several_inputs_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    sources = find(tmp_path, tmp_path / "a.wav", "-", stdin=os.fsencode(tmp_path / "a.wav"))
    assert (paths(sources), sources.repeated) == ([str(tmp_path / "a.wav")], 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    assert paths(find("-", stdin="/x/a é.wav\r\n/x/b.wav\r\n".encode(encoding))) == ["/x/a é.wav", "/x/b.wav"]
    assert paths(find("-", stdin='{"audio_filepath": "/x/c.wav"}\n'.encode(encoding))) == ["/x/c.wav"]
    (tmp_path / "wav.scp").write_bytes("utt1 /x/d.wav\n".encode(encoding))
    (tmp_path / "list.jsonl").write_bytes('{"audio_filepath": "/x/e.wav"}\n'.encode(encoding))
    assert find(tmp_path / "wav.scp").recordings[0].info.name == "utt1"
    assert paths(find(tmp_path / "list.jsonl")) == ["/x/e.wav"]


def test_a_manifest_may_be_one_array(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "a.wav", "language": "de"}, {"text": "x"}]
    manifest = tmp_path / "list.json"
    manifest.write_text(json.dumps(rows, indent=2))
    sources = find(manifest)
    assert [(r.path, r.language) for r in sources.recordings] == [(str(tmp_path / "a.wav"), "de")]
    assert [str(error) for error in sources.failures] == [f'{manifest}:2: needs a JSON object with "audio_filepath"']
    assert paths(find("-", stdin=b'[\n{"audio_filepath": "/x/a.wav"}]')) == ["/x/a.wav"]
    assert paths(find("-", stdin=b"[x].wav\n")) == ["[x].wav"], "a name may begin with a bracket"
    manifest.write_text('[\n{"audio_filepath": "a.wav"},\n}')
    assert [str(error) for error in find(manifest).failures] == [f"{manifest}:3: is not JSON"]


def test_a_pattern_of_lists_is_lists(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"audio_filepath": "{name}.wav"}}\n')
    assert paths(find(f"{tmp_path}/*.jsonl")) == [str(tmp_path / "one.wav"), str(tmp_path / "two.wav")]


def test_a_text_is_no_recording_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.wav\nb.wav\n")
    sources = find(tmp_path / "list.txt")
    assert paths(sources) == []
    assert str(sources.failures[0]).endswith(
        f"a list of recordings is for batch: fun-asr batch - < {tmp_path}/list.txt"
    )


def test_languages_may_be_tags_and_what_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    given = ["nl-NL", "jpn", "Mandarin", "Germann", "deu"]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(
        "".join(json.dumps({"audio_filepath": f"{n}.wav", "language": name}) + "\n" for n, name in enumerate(given))
    )
    sources = find_sources([str(manifest)], Search(), io.BytesIO())
    assert [recording.language for recording in sources.recordings] == ["nl", "ja", "zh", "de"]
    (error,) = sources.failures
    assert str(error).startswith(f"{manifest}:4: unknown language 'Germann'; did you mean de (german)")
