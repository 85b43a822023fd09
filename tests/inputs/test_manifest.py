"""Manifests of recordings: what a line may hold, and that a bad line costs only itself."""

from pathlib import Path

import pytest

from fun_asr.inputs.manifest import ManifestRow, read_rows


def test_rows_with_and_without_labels(tmp_path: Path) -> None:
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(
        '{"audio_filepath": "a/1.wav", "duration": 2.0, "language": "en", "speaker": 17, "offset": 0.0}\n'
        "\n"
        '{"audio_filepath": "/b/2.wav", "language": null, "speaker": ""}\n'
        '{"audio_filepath": "3.wav", "speaker": "two\\nlines \\ud800"}',
        encoding="utf-8",
    )
    assert read_rows(manifest) == (
        [
            ManifestRow(
                str(tmp_path / "a" / "1.wav"),
                "en",
                "17",
                {"duration": 2.0, "language": "en", "speaker": 17, "offset": 0.0},
                duration=2.0,
            ),
            ManifestRow("/b/2.wav", None, None, {"language": None, "speaker": ""}),
            ManifestRow(str(tmp_path / "3.wav"), None, "two lines \\ud800", {"speaker": "two\nlines \ud800"}),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'["1.wav"]', 'needs a JSON object with "audio_filepath"'),
        (b'{"text": "one"}', 'needs a JSON object with "audio_filepath"'),
        (b'{"audio_filepath": 1}', 'needs a JSON object with "audio_filepath"'),
        (b'{"audio_filepath": "1.wav", "offset": -2.5}', "offset must be seconds from 0 on, got -2.5"),
        (b'{"audio_filepath": "1.wav", "duration": "long"}', "duration must be a number of seconds, got 'long'"),
        (b'{"audio_filepath": "1.wav", "duration": -1}', "duration must be more than 0 seconds, got -1"),
        (b'{"audio_filepath": "1.wav", "duration": NaN}', "duration must be more than 0 seconds, got nan"),
    ],
)
def test_a_bad_line_is_named_and_the_others_stay(tmp_path: Path, line: bytes, message: str) -> None:
    manifest = tmp_path / "list.jsonl"
    manifest.write_bytes(b'{"audio_filepath": "1.wav"}\n' + line + b'\n{"audio_filepath": "2.wav"}\n')
    rows, (error,) = read_rows(manifest)
    assert [Path(row.audio_filepath).name for row in rows] == ["1.wav", "2.wav"]
    assert str(error).startswith(f"{manifest}:2: ")
    assert message in str(error)


def test_no_manifest_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, message in (("missing.jsonl", "No such file or directory"), ("empty.jsonl", "without recordings")):
        rows, (error,) = read_rows(tmp_path / name)
        assert rows == []
        assert str(error).startswith(f"{tmp_path / name}: ")
        assert message in str(error)
