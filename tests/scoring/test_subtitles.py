"""Subtitles scored: the words that are shown, once each, whatever marks them up."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.inputs.info import RecordingInfo
from fun_asr.scoring.subtitles import read_subtitles
from fun_asr.transcript import Segment, Transcript, Word
from fun_asr.writers.subtitles import SRTWriter, SubtitleOptions, VTTWriter

TEXT = "No, no. I said no & that was all there was to say about it, or was it no?"


@pytest.fixture
def transcript() -> Transcript:
    words = tuple(
        Word(text=text, start=0.5 * n, end=0.5 * n + 0.4, confidence=None) for n, text in enumerate(TEXT.split())
    )
    segment = Segment(start=0, end=8, text=TEXT, language="en", language_probability=None, score=None, words=words)
    return Transcript(
        path="talk.wav", duration=8, language="en", language_probability=None, segments=(segment,), word_times=True
    )


@pytest.mark.parametrize("kind", [SRTWriter, VTTWriter])
@pytest.mark.parametrize(
    "options", [SubtitleOptions(), SubtitleOptions(highlight_words=True), SubtitleOptions(max_words_per_line=1),
                SubtitleOptions(max_words_per_line=1, highlight_words=True)],
)  # fmt: skip
def test_what_the_writers_write_is_read_back(
    kind: type[SRTWriter | VTTWriter], options: SubtitleOptions, transcript: Transcript, tmp_path: Path
) -> None:
    writer = kind(options)
    path = tmp_path / f"talk{writer.extension}"
    writer.write(transcript, path, RecordingInfo())
    problems: list[str] = []
    (utterance,) = read_subtitles(path, problems)
    assert (utterance.id, utterance.text, problems) == ("talk", TEXT, [])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.srt", "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Hello</i>\r\nthere.\r\n\r\n", "Hello there."),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:02,000 --> 00:00:03,000\n22\n", "one 22"),
        ("a.srt", "\ufeff1\n0:00:01.0 --> 0:00:02.0\n{\\an8}<font color='#fff'>up</font>\n", "up"),
        ("a.srt", "", ""),
        ("a.vtt", "WEBVTT\n\nNOTE not said\n\nSTYLE\n::cue { color: red }\n\nintro\n01:00.000 --> 01:02.500 line:0\n"
                  "<v Ada>R&amp;D <00:01:01.000><c>works</c>\n", "R&D works"),
        ("a.vtt", "WEBVTT\n", ""),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nno\n\n2\n00:00:02,000 --> 00:00:03,000\nno\n", "no no"),
    ],
)  # fmt: skip
def test_other_programs_subtitles(tmp_path: Path, name: str, content: str, text: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    problems: list[str] = []
    (utterance,) = read_subtitles(tmp_path / name, problems)
    assert (utterance.text, problems) == (text, [])


def wer(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(main, ["wer", *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    report: dict[str, object] = json.loads(result.stdout)
    return report


def test_files_and_folders_of_subtitles_are_scored(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "ref" / f"{name}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / "ref" / f"{name}.txt").write_text("one two\nthree four\n")
        (tmp_path / "hyp" / f"{name}.srt").parent.mkdir(exist_ok=True)
        cues = "1\n00:00:00,000 --> 00:00:01,000\none two three\n\n2\n00:00:01,000 --> 00:00:02,000\nfive\n"
        (tmp_path / "hyp" / f"{name}.srt").write_text(cues)
    folders = wer("-r", tmp_path / "ref", "-h", tmp_path / "hyp")
    assert (folders["reference_length"], folders["errors"], folders["sentences"]) == (8, 2, 2)
    files = wer("-r", tmp_path / "ref" / "a.txt", "-h", tmp_path / "hyp" / "a.srt")
    assert (files["reference_length"], files["errors"], files["sentences"]) == (4, 1, 1)
    turned = wer("-r", tmp_path / "hyp" / "a.srt", "-h", tmp_path / "ref" / "a.txt")
    assert (turned["reference_length"], turned["substitutions"]) == (4, 1)
    (tmp_path / "ref.stm").write_text("a 1 spk 0 1 one two\na 1 spk 1 2 three four\n")
    assert wer("-r", tmp_path / "ref.stm", "-h", tmp_path / "hyp" / "a.srt")["errors"] == 1


def test_what_is_no_subtitles_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("just words\n")
    result = CliRunner().invoke(main, ["wer", "-r", str(tmp_path / "a.srt"), "-h", str(tmp_path / "a.srt")])
    assert result.exit_code == 2
    assert "a.srt: has no cues of subtitles" in result.stderr


def test_a_data_directory_of_kaldis_is_its_text(tmp_path: Path) -> None:
    for side, words in (("ref", "one two"), ("hyp", "one too")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "text").write_text(f"utt-1 {words}\n")
    assert wer("-r", tmp_path / "ref", "-h", tmp_path / "hyp")["errors"] == 1


def test_h_alone_is_help_and_else_the_hypotheses() -> None:
    helped, asked = (CliRunner().invoke(main, ["wer", option]) for option in ("-h", "--help"))
    assert (helped.exit_code, helped.stdout) == (0, asked.stdout)
