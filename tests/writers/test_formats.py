"""Every format, with and without word times, read back by other readers where there are any."""

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import av
import pytest

from fun_asr.errors import ConfigError
from fun_asr.inputs.info import RecordingInfo
from fun_asr.transcript import Segment, Transcript, Word
from fun_asr.writers.formats import OUTPUT_FORMATS, make_writers, parse_formats
from fun_asr.writers.subtitles import SubtitleOptions


def segment(start: float, end: float, text: str, *words: tuple[str, float, float], language: str = "en") -> Segment:
    timed = tuple(
        Word(text=word, start=begin, end=finish, confidence=0.5 + i / 100)
        for i, (word, begin, finish) in enumerate(words)
    )
    return Segment(
        start=start, end=end, text=text, language=language, language_probability=None, score=-0.1, words=timed
    )


def transcript(*segments: Segment, duration: float = 20.0, path: str = "a/my talk.wav") -> Transcript:
    return Transcript(path=path, duration=duration, language="en", language_probability=None, segments=segments)


HELLO = (("Hello", 0.5, 1.0), ("world", 1.2, 1.8), ("he", 2.5, 2.6), ("said", 2.7, 3.2))
LETTERS = (("A", 9.0, 9.2), ("B", 9.5, 9.7), ("C", 10.0, 10.2), ("D", 11.0, 11.4))
WITH_WORDS = transcript(
    segment(0, 4.5, "“Hello, world!” – he said.", *HELLO),
    segment(4.5, 9, ""),
    segment(9, 12, "A < B & C --> D.", *LETTERS),
)
WITHOUT_WORDS = transcript(segment(0, 10, "aaaa bbbb cc"), segment(10, 20, ""))


def render(name: str, of: Transcript, info: RecordingInfo | None = None, **options: object) -> str:
    writer = make_writers([name], SubtitleOptions(**options))[name]  # type: ignore[arg-type]
    return writer.encode(of, info).decode()


def packets(content: str, path: Path) -> list[tuple[float, float, str]]:
    """Start, end and text of subtitles as FFmpeg reads them."""
    path.write_text(content, encoding="utf-8")
    with av.open(str(path)) as container:
        return [
            (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base), bytes(p).decode().strip())
            for p in container.demux()
            if p.pts is not None
        ]


def test_formats_by_comma_repetition_and_all() -> None:
    assert parse_formats(["srt,txt", "srt", "textgrid"]) == ("srt", "txt", "TextGrid")
    assert parse_formats(["all"]) == OUTPUT_FORMATS
    with pytest.raises(ConfigError, match="'docx' is not one of"):
        parse_formats(["txt,docx"])


def test_srt_with_word_times(tmp_path: Path) -> None:
    content = render("srt", WITH_WORDS)
    assert content.startswith("1\n00:00:00,500 --> 00:00:03,200\n“Hello, world!” – he said.\n\n2\n00:00:09,000 -->")
    assert packets(content, tmp_path / "x.srt") == [
        (0.5, 3.2, "“Hello, world!” – he said."),
        (9.0, 11.4, "A < B & C -> D."),
    ]


def test_vtt_escapes_what_it_would_read_as_tags(tmp_path: Path) -> None:
    content = render("vtt", WITH_WORDS)
    assert content.startswith("WEBVTT\n\n00:00.500 --> 00:03.200\n")
    assert "A &lt; B &amp; C --&gt; D." in content
    assert [packet[:2] for packet in packets(content, tmp_path / "x.vtt")] == [(0.5, 3.2), (9.0, 11.4)]
    late = render("vtt", transcript(segment(3661.5, 3662, "x"), duration=3662))
    assert "01:01:01.500 --> 01:01:02.000" in late


def test_times_are_shared_out_by_characters_where_there_are_none() -> None:
    content = render("srt", WITHOUT_WORDS, max_words_per_line=1)
    assert re.findall(r"(\S+) --> (\S+)\n(.*)", content) == [
        ("00:00:00,000", "00:00:04,000", "aaaa"),
        ("00:00:04,000", "00:00:08,000", "bbbb"),
        ("00:00:08,000", "00:00:10,000", "cc"),
    ]


def test_lines_are_no_wider_than_asked_and_cues_have_no_more_lines() -> None:
    text = "one two three four five six seven eight nine ten"
    cues = render("srt", transcript(segment(0, 10, text)), max_line_width=10, max_line_count=2).strip().split("\n\n")
    lines = [cue.split("\n")[2:] for cue in cues]
    assert " ".join(word for cue in lines for word in cue) == text
    assert all(len(cue) <= 2 and max(map(len, cue)) <= 10 for cue in lines)
    high = render("srt", transcript(segment(0, 6, text)), max_line_width=10, max_line_count=6)
    assert high.count("-->") == 1 and high.count("\n") == 6 + 3


def test_without_limits_cues_fit_a_screen() -> None:
    content = render("vtt", transcript(segment(0, 20, "word " * 60)))
    cues = content.removeprefix("WEBVTT\n\n").strip().split("\n\n")
    assert len(cues) == 4
    assert all(len(cue.split("\n")) <= 3 and max(map(len, cue.split("\n")[1:])) <= 42 for cue in cues)


def test_sentences_over_the_ends_of_segments_but_not_over_pauses_are_one_cue() -> None:
    near = transcript(segment(0, 2, "one two"), segment(2, 4, "three"), segment(4, 8, ""), segment(8, 9, "four"))
    cues = render("srt", near).strip().split("\n\n")
    assert [cue.split("\n")[2] for cue in cues] == ["one two three", "four"]


def test_a_word_longer_than_a_line_is_not_lost() -> None:
    content = render(
        "srt", transcript(segment(0, 9, "a pneumonoultramicroscopic b")), max_line_width=5, max_line_count=1
    )
    assert [cue.split("\n")[2] for cue in content.strip().split("\n\n")] == ["a", "pneumonoultramicroscopic", "b"]


def test_each_word_is_underlined_while_it_is_spoken() -> None:
    content = render("vtt", WITH_WORDS, highlight_words=True, max_line_width=100)
    shown = re.findall(r"(\S+) --> (\S+)\n(.*)", content)
    assert shown[:4] == [
        ("00:00.500", "00:01.000", "<u>“Hello,</u> world!” – he said."),
        ("00:01.000", "00:01.200", "“Hello, world!” – he said."),
        ("00:01.200", "00:01.800", "“Hello, <u>world!” –</u> he said."),
        ("00:01.800", "00:02.500", "“Hello, world!” – he said."),
    ]
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(shown))


@pytest.mark.parametrize(
    "options",
    [
        {"max_line_count": 0},
        {"max_line_width": 0},
        {"max_cue_seconds": 0.0},
        {"min_cue_seconds": 8.0},
        {"max_reading_speed": float("nan")},
        {"max_line_width": 10, "max_words_per_line": 2},
    ],
)
def test_contradicting_limits_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SubtitleOptions(**options)  # type: ignore[arg-type]


def test_tsv_is_in_whole_milliseconds() -> None:
    assert render("tsv", WITHOUT_WORDS) == "start\tend\ttext\n0\t10000\taaaa bbbb cc\n"


def test_json_with_the_keys_of_whisper() -> None:
    first = segment(0.5, 2, "Hello.", ("Hello", 0.5, 1.0))
    chunks = (segment(0, 30, "Hello."), segment(30, 60, "Two."))
    of = dataclasses.replace(transcript(first, segment(31, 32, "Two.")), chunks=chunks)
    writer = make_writers(["json"], SubtitleOptions(), "whisper")["json"]
    entry = json.loads(writer.encode(of))
    assert list(entry) == ["text", "segments", "language"]
    assert (entry["text"], entry["language"]) == (" Hello. Two.", "en")
    assert [(s["id"], s["seek"], s["start"], s["end"], s["text"]) for s in entry["segments"]] == [
        (0, 0, 0.5, 2, " Hello."),
        (1, 3000, 31, 32, " Two."),
    ]
    assert entry["segments"][0]["words"] == [{"word": " Hello", "start": 0.5, "end": 1.0, "probability": 0.5}]
    numbers = ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
    assert all(isinstance(s[key], float) for s in entry["segments"] for key in numbers)


def test_ctm_has_a_line_a_word() -> None:
    lines = [line.split(" ") for line in render("ctm", WITH_WORDS).splitlines()]
    assert lines[0] == ["my_talk", "1", "0.500", "0.500", "“Hello,", "0.5000"]
    assert [line[4] for line in lines[:4]] == ["“Hello,", "world!”–", "he", "said."]
    assert render("ctm", WITHOUT_WORDS, RecordingInfo(name="utt1")).splitlines()[1] == "utt1 1 4.000 4.000 bbbb"


def test_stm_has_a_line_a_segment() -> None:
    assert render("stm", WITHOUT_WORDS) == "my_talk 1 unknown 0.000 10.000 aaaa bbbb cc\n"


def test_jsonl_is_a_manifest_line_that_keeps_the_reference() -> None:
    info = RecordingInfo(fields={"text": "a b", "duration": 1, "speaker": "x"})
    entry = json.loads(render("jsonl", WITHOUT_WORDS, info))
    assert (entry["audio_filepath"], entry["duration"]) == ("a/my talk.wav", 20.0)
    assert (entry["text"], entry["pred_text"], entry["speaker"]) == ("a b", "aaaa bbbb cc", "x")
    assert render("jsonl", WITHOUT_WORDS).count("\n") == 1


def intervals(content: str) -> dict[str, list[tuple[float, float, str]]]:
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    for block in content.split("    item [")[1:]:
        name = re.search(r'name = "(.*)"', block)
        assert name is not None
        found = re.findall(r"intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)\s+text = \"(.*)\"\n", block)
        assert int(re.search(r"intervals: size = (\d+)", block)[1]) == len(found)  # type: ignore[index]
        tiers[name[1]] = [(float(start), float(end), text) for start, end, text in found]
    return tiers


def test_textgrid_tiers_cover_the_recording() -> None:
    tiers = intervals(render("TextGrid", WITH_WORDS))
    assert list(tiers) == ["segments", "words"]
    for tier in tiers.values():
        assert (tier[0][0], tier[-1][1]) == (0, 20)
        assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(tier))
    assert [text for _, _, text in tiers["words"] if text][:2] == ["“Hello,", "world!” –"]
    assert list(intervals(render("TextGrid", WITHOUT_WORDS))) == ["segments"]


def test_textgrid_doubles_quotes_and_loses_no_word_of_bad_times() -> None:
    bad = transcript(segment(0, 2, 'a "b" c', ("a", 1.0, 1.0), ("b", 0.5, 1.5), ("c", 1.2, 1.5)), duration=2.0)
    words = intervals(render("TextGrid", bad))["words"]
    assert words == [(0, 0.5, ""), (0.5, 1.5, 'a ""b"" c'), (1.5, 2, "")]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_nothing_said_is_a_valid_file(name: str) -> None:
    silence = transcript(segment(0, 20, ""))
    content = render(name, silence)
    expected = {"srt": "", "ctm": "", "stm": "", "txt": "\n", "vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n"}
    assert content == expected.get(name, content)
    if name == "TextGrid":
        assert intervals(content) == {"segments": [(0, 20, "")]}
