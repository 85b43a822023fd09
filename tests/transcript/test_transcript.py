"""A transcript in Python: its text, subtitles, and how shells and notebooks show it."""

import re

from fun_asr import SubtitleOptions
from fun_asr.transcript import Segment, Transcript


def segment(start: float, end: float, text: str, language: str = "en", channel: int | None = None) -> Segment:
    return Segment(
        start=start, end=end, text=text, language=language, language_probability=None, score=-0.1, channel=channel
    )


def transcript(*segments: Segment, chunks: tuple[Segment, ...] = ()) -> Transcript:
    return Transcript(
        path="a <b>.wav", duration=20.0, language="en", language_probability=None, segments=segments, chunks=chunks
    )


TWO = transcript(segment(0, 2, "One & two."), segment(3, 5, "Three."))


def test_subtitles_without_a_file() -> None:
    assert (
        TWO.to_srt() == "1\n00:00:00,000 --> 00:00:02,000\nOne & two.\n\n2\n00:00:03,000 --> 00:00:05,000\nThree.\n\n"
    )
    assert TWO.to_vtt().startswith("WEBVTT\n\n00:00.000 --> 00:02.000\nOne &amp; two.\n")
    assert "One &\ntwo." in TWO.to_srt(SubtitleOptions(max_line_width=6))


def test_the_text_keeps_the_spaces_of_its_blocks() -> None:
    both = segment(0, 4, "你好。 OK. 再见。", "zh")
    cut = (segment(0, 1, "你好。", "zh"), segment(1, 2, "OK.", "zh"), segment(2, 4, "再见。", "zh"))
    assert transcript(*cut, chunks=(both,)).text == "你好。 OK. 再见。"


def test_chunks_are_in_json_without_words() -> None:
    entry = transcript(segment(0, 1, "One."), chunks=(segment(0, 2, "One."), segment(2, 20, ""))).to_dict()
    assert [(chunk["start"], chunk["end"], chunk["text"]) for chunk in entry["chunks"]] == [(0, 2, "One."), (2, 20, "")]
    assert "words" in entry["segments"][0] and "words" not in entry["chunks"][0]


def test_a_shell_shows_one_line() -> None:
    shown = repr(transcript(segment(0, 20, "word " * 1000)))
    assert len(shown) < 160 and "\n" not in shown
    assert shown.startswith("<Transcript of 'a <b>.wav': 20.0 s, en, 1 segment, 'word word")


def test_a_notebook_shows_a_table_in_which_nothing_is_markup() -> None:
    html = TWO._repr_html_()
    assert "a &lt;b&gt;.wav" in html and "One &amp; two." in html and "<b>.wav" not in html
    assert re.findall(r"<td>(.*?)</td>", html) == ["0.00", "2.00", "One &amp; two.", "3.00", "5.00", "Three."]
    voices = transcript(segment(0, 2, "A.", channel=1), segment(0, 2, "A.", channel=2))._repr_html_()
    assert re.findall(r"<td>(.*?)</td>", voices)[2::4] == ["Channel 1", "Channel 2"]
    long = transcript(*(segment(i, i + 1, "x") for i in range(500)))._repr_html_()
    assert long.count("<tr>") < 300 and "and 300 more segments" in long
