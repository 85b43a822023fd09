"""Reading references and hypotheses in every format, and what is said of files that cannot be used."""

import json
from pathlib import Path

import pytest

from fun_asr.errors import ScoringError
from fun_asr.scoring.reading import Pair, find_format, read_pair


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(pair: Pair) -> tuple[dict[str, str], dict[str, str]]:
    sides = pair.references, pair.hypotheses
    return tuple({key: u.text for key, u in side.items()} for side in sides)  # type: ignore[return-value]


EXPECTED = {"utt-1": "the cat", "utt-2": "a dog ran"}
WAYS = {
    "text": "utt-1 the cat\nutt-2  a dog ran\n",
    "ref.trn": ";; a comment\nthe cat (utt-1)\na dog ran (utt-2)\n",
    "trn.txt": "the cat (utt-1)\na dog ran (utt-2)\n",
    "ref.ctm": "utt-2 1 0.5 0.1 dog 0.9\nutt-2 1 0.1 0.1 a\nutt-1 A 0 0.1 the\nutt-1 A 1 1 cat\nutt-2 1 2 1 ran 0.5\n",
    "ref.stm": "utt-1 1 s 0 1 <o,f0> the\nutt-1 1 s 1 2 <o,f0> cat\nutt-2 1 s 0 3 a dog ran\n",
    "ref.jsonl": '{"audio_filepath": "utt-1.wav", "text": "the cat"}\n\n{"id": "utt-2", "text": "a dog ran"}\n',
    "ref.json": '[{"id": "utt-1", "text": "the cat"}, {"path": "utt-2.mp3", "text": "a  dog ran"}]',
    "nemo.json": '{"id": "utt-1", "text": "the cat"}\n{"id": "utt-2", "text": "a dog ran"}\n',
    "array.jsonl": '[\n  {"id": "utt-1", "text": "the cat"},\n  {"id": "utt-2", "text": "a dog ran"}\n]\n',
    "ref.csv": 'path,sentence\nutt-1.mp3,"the cat"\nutt-2.mp3,a dog ran\n',
    "ref.tsv": "id\ttext\r\nutt-1\tthe cat\r\nutt-2\ta dog ran\r\n",
}


@pytest.mark.parametrize("name", WAYS)
def test_every_format_on_both_sides(name: str, write) -> None:  # type: ignore[no-untyped-def]
    other = write("other/text", WAYS["text"])
    path = write(name, WAYS[name])
    assert texts(read_pair(path, other)) == (EXPECTED, EXPECTED)
    assert texts(read_pair(other, path)) == (EXPECTED, EXPECTED)


def test_a_folder_of_texts_beside_audio(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write("ref/cv/a.txt", "the\ncat\n")
    write("ref/cv/a.flac", b"")
    write("ref/libri/1/1-2.trans.txt", "1-2-0001 A DOG\n1-2-0002 RAN\n")
    write("ref/.hidden.txt", "x")
    write("out/cv/a.txt", "other")
    write("out/cv/a.json", json.dumps({"text": "the hat", "segments": [{"score": -0.5}], "language": "en"}))
    write("out/libri/1/1-2-0001.txt", "a dog")
    pair = read_pair(tmp_path / "ref", tmp_path / "out")
    assert texts(pair) == (
        {"cv/a": "the cat", "libri/1/1-2-0001": "A DOG", "libri/1/1-2-0002": "RAN"},
        {"cv/a": "the hat", "libri/1/1-2-0001": "a dog"},
    )
    assert pair.references["cv/a"].audio == str(tmp_path / "ref/cv/a.flac")
    assert [u.corpus for u in pair.references.values()] == ["cv", "libri", "libri"]
    assert pair.hypotheses["cv/a"].confidence == pytest.approx(0.6065, abs=1e-4)


def test_a_manifest_against_a_folder_of_another_root(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    manifest = write("ref.jsonl", '{"audio_filepath": "clips/a.wav", "text": "x", "duration": 2, "speaker": "Ada"}\n')
    write("out/deep/clips/a.txt", "y")
    write("out/deep/clips/b.txt", "z")
    pair = read_pair(manifest, tmp_path / "out")
    assert texts(pair) == ({"clips/a": "x"}, {"clips/a": "y"})
    assert pair.extra == ["deep/clips/b"]
    utterance = pair.references["clips/a"]
    assert (utterance.duration, utterance.speaker) == (2.0, "Ada")
    assert utterance.audio == str(tmp_path / "clips/a.wav")


def test_nemo_writes_both_sides_into_one_file(write) -> None:  # type: ignore[no-untyped-def]
    path = write("out.jsonl", '{"audio_filepath": "a.wav", "text": "x", "pred_text": "y"}\n')
    assert texts(read_pair(path, path)) == ({"a": "x"}, {"a": "y"})
    assert texts(read_pair(path, path, reference_key="pred_text")) == ({"a": "y"}, {"a": "y"})


def test_the_spoken_form(write) -> None:  # type: ignore[no-untyped-def]
    ref = write("ref.jsonl", '{"id": "a", "text": "five", "written": "5"}\n')
    hyp = write("hyp.jsonl", '{"id": "a", "text": "5", "spoken_text": "five"}\n')
    assert texts(read_pair(ref, hyp))[1] == {"a": "5"}
    assert texts(read_pair(ref, hyp, spoken=True)) == ({"a": "five"}, {"a": "five"})
    with pytest.raises(ScoringError, match=r"ref.jsonl:1: a has no text \(spoken_text or spoken\)"):
        read_pair(ref, ref, spoken=True)


def test_recordings_that_differ_in_their_suffix_alone_keep_it(write) -> None:  # type: ignore[no-untyped-def]
    ref = write("ref.jsonl", '{"path": "a.wav", "text": "x"}\n{"path": "a.mp3", "text": "y"}\n')
    assert list(read_pair(ref, ref).references) == ["a.wav", "a.mp3"]


def test_words_of_a_ctm_go_to_the_segments_of_an_stm_as_in_sclite(write) -> None:  # type: ignore[no-untyped-def]
    stm = write(
        "ref.stm",
        "talk 1 A 0.0 2.0 <o> hello there\ntalk 1 B 3.0 5.0 <o> how are you\n"
        "talk 1 B 6.0 7.0 <o> IGNORE_TIME_SEGMENT_IN_SCORING\ntalk 1 B 8.0 9.0 bye\nsilent 1 A 0 1 word\n",
    )
    times = {"hello": 0.1, "there": 0.5, "gap": 2.2, "how": 3.2, "dropped": 5.1, "ignored": 6.1, "bye": 8.2, "end": 9.2}
    ctm = write("hyp.ctm", "".join(f"talk 1 {time} 0.3 {word} 0.5\n" for word, time in times.items()))
    references, hypotheses = texts(read_pair(stm, ctm))
    assert list(references.values()) == ["hello there", "how are you", "bye", "word"]
    assert hypotheses == {
        "talk-1-0.00-2.00": "hello there",
        "talk-1-3.00-5.00": "gap how",
        "talk-1-8.00-9.00": "bye end",
    }
    assert read_pair(stm, ctm).references["talk-1-3.00-5.00"].speaker == "B"


def test_kaldi_files_beside_a_text(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = write("data/text", WAYS["text"])
    write("data/utt2spk", "utt-1 Ada\nutt-2 Bo\n")
    write("data/wav.scp", "utt-1 /audio/1.wav\nutt-2 flac -d 2.flac |\n")
    write("data/utt2dur", "utt-1 2.5\n")
    first, second = read_pair(text, text).references.values()
    assert (first.speaker, first.audio, first.duration) == ("Ada", "/audio/1.wav", 2.5)
    assert (second.speaker, second.audio, second.duration) == ("Bo", None, None)


def test_lines_that_start_with_plain_words_have_no_ids(write) -> None:  # type: ignore[no-untyped-def]
    lines = write("ref.txt", "hello world\nmy dog\n")
    assert find_format(lines) == "text"
    assert texts(read_pair(lines, lines))[0] == {"1": "hello world", "2": "my dog"}
    assert find_format(write("ids.txt", "a-1 hello\na-2 dog\n")) == "kaldi"


def test_a_byte_order_mark_is_no_text(write) -> None:  # type: ignore[no-untyped-def]
    path = write("ref.trn", "\ufeffthe cat (a-1)\n")
    assert texts(read_pair(path, path))[0] == {"a-1": "the cat"}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.trn", "the cat (u-1)\nno id here\n", "x.trn:2: has no utterance id"),
        ("x.trn", "", "x.trn: holds no utterances"),
        ("x.txt", "a (u-1)\nb (u-2)\nc\n", "x.txt:3: has no utterance id"),
        ("x.trn", "a (u-1)\nb (u-1)\n", "x.trn:2: the id u-1 is also that of line 1"),
        ("x.trn", " (u-1)\n", "x.trn: the reference of u-1 is empty; --allow_empty"),
        ("x.trn", b"caf\xe9 (u-1)\n", "x.trn:1: is not UTF-8 (byte 0xe9)"),
        ("x.trn", "a (u-1)\n".encode("utf-16")[:-1], "x.trn: is damaged UTF-16"),
        ("x.json", '[{"id": "u-1", "text": "a"},\n]', "x.json:2: is not JSON"),
        ("x.json", '[["u-1", "a"]]', "x.json: holds neither a JSON object nor an array of objects"),
        ("x.json", '[{"id": "u-1", "text": null}]', "x.json:1: u-1 has no text"),
        ("x.json", '[{"id": "u-1", "text": true}]', "x.json:1: u-1 has no text"),
        ("x.json", '[{"id": "u-1", "text": NaN}]', "x.json:1: u-1 has no text"),
        ("x.json", "[" * 100_000, "x.json: is not JSON"),
        ("x.jsonl", '{"id": "u-1", "text": "a"}\nnonsense\n', "x.jsonl:2: is not JSON"),
        ("x.jsonl", '{"text": "a"}\n', "x.jsonl:1: has no id (id,"),
        ("x.jsonl", '{"id": "u-1"}\n', "x.jsonl:1: u-1 has no text (text,"),
        ("x.jsonl", "[1]\n", "x.jsonl:1: is not a JSON object"),
        ("x.csv", "a,b\n1,2\n", "x.csv: its first line must name the columns"),
        ("x.ctm", "talk 1 zero 0.3 word\n", "x.ctm:1: is not a line of ctm"),
        ("x.stm", "talk 1 A 0.0\n", "x.stm:1: is not a line of stm"),
    ],
)
def test_bad_references(name: str, content: str | bytes, problem: str, write) -> None:  # type: ignore[no-untyped-def]
    good = write("good.trn", "a (u-1)\n")
    bad = write(name, content)
    with pytest.raises(ScoringError) as caught:
        read_pair(bad, good)
    (found,) = caught.value.problems
    assert found.startswith(f"{bad.parent}/{problem}")
    assert "\n" not in found


def test_all_problems_of_both_sides_at_once(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ScoringError) as caught:
        read_pair(write("a.trn", "x\ny\nz (u-1)\n"), write("b.trn", "x\nz (u-1)\n"))
    assert len(caught.value.problems) == 3


def test_no_common_id(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ScoringError, match=r"b.trn: none of its 1 ids is in .*a.trn: v-1 here, u-1 there"):
        read_pair(write("a.trn", "x (u-1)\n"), write("b.trn", "x (v-1)\n"))


def test_lines_without_ids_must_be_as_many(write) -> None:  # type: ignore[no-untyped-def]
    two, three = write("two.txt", "a\nb\n"), write("three.txt", "a\nb\nc\n")
    with pytest.raises(ScoringError, match=r"three.txt: has 3 lines, but .*two.txt has 2"):
        read_pair(two, three)
    with pytest.raises(ScoringError, match=r"two.txt: its lines have no ids"):
        read_pair(write("text", WAYS["text"]), two)


def test_an_empty_reference_can_be_allowed(write) -> None:  # type: ignore[no-untyped-def]
    path = write("x.trn", " (u-1)\na (u-2)\n")
    assert texts(read_pair(path, path, empty=True))[0] == {"u-1": "", "u-2": "a"}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_every_format_behind_a_byte_order_mark(name: str, encoding: str, write) -> None:  # type: ignore[no-untyped-def]
    path = write(name, WAYS[name].encode(encoding))
    assert texts(read_pair(path, write("other/text", WAYS["text"]))) == (EXPECTED, EXPECTED)


def test_numbers_are_texts_as_they_are_written(write) -> None:  # type: ignore[no-untyped-def]
    rows = ['{"id": "a", "text": "5", "pred_text": 5}', '{"id": "b", "text": "2.50", "pred_text": 2.50}']
    for name, content in (("x.jsonl", "\n".join(rows)), ("x.json", f"[{', '.join(rows)}]")):
        path = write(name, content)
        assert texts(read_pair(path, path)) == ({"a": "5", "b": "2.50"},) * 2


def test_an_offset_that_is_written_with_a_point_is_a_number(write) -> None:  # type: ignore[no-untyped-def]
    rows = [{"audio_filepath": "a.wav", "offset": offset, "duration": 1.5, "text": "x"} for offset in (0.0, 1.5)]
    path = write("x.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(u.id, u.duration) for u in read_pair(path, path).references.values()] == [("a", 1.5), ("a@1.5", 1.5)]


def test_arrays_of_texts_are_lines(write) -> None:  # type: ignore[no-untyped-def]
    ref, hyp = write("ref.json", '["the cat", "5"]'), write("hyp.json", '["a cat", 5]')
    assert texts(read_pair(ref, hyp)) == ({"1": "the cat", "2": "5"}, {"1": "a cat", "2": "5"})
    assert texts(read_pair(ref, write("hyp.txt", "a cat\n5\n")))[1] == {"1": "a cat", "2": "5"}
    with pytest.raises(ScoringError, match=r"one.json: has 1 lines, but .*ref.json has 2"):
        read_pair(ref, write("one.json", '["x"]'))
    with pytest.raises(ScoringError, match=r"ref.json: its lines have no ids, but those of .*ids.trn \(trn\) have"):
        read_pair(ref, write("ids.trn", "x (u-1)\ny (u-2)\n"))


# Reference and hypothesis, line by line, and whether what stands in front is an id.
FIRST_WORDS = [
    ("5 people came\n7 dogs ran\n", "5 people came\n8 dogs ran\n", False),
    ("5 people came\n7 dogs ran\n", "five people came\nseven dogs ran\n", False),
    ("5 people came\n7 dogs ran\n", "5 people come\n7 dogs ran\n", False),
    ("well-known names\ntwenty-five men\n", "well-known name\ntwenty-five men\n", False),
    ("1990s music\n3rd place\n", "1990s music\n3rd places\n", False),
    ("$5.50 please\n10:30 today\n", "$5.50 please\n10:30 to day\n", False),
    ("utt-1 a b\nutt-2 c\n", "utt-1 a\nutt-2 c\n", True),
    ("1 a b\n2 c\n3 d\n", "1 a\n2 c\n3 d\n", True),
    ("007 a b\n042 c\n", "007 a\n042 c\n", True),
    ("17 a\n23 b\n99 c\n120 d\n", "17 a\n23 b\n99 c\n120 x\n", True),
    ("5 people came\n7 dogs ran\n", "7 dogs ran\n5 people came\n", True),
    ("5 a b\n7 c\n9 d\n", "5 a\n7 c\n", True),
    ("1089-134686-0000 a\n1089-134686-0001 b\n", "1089-134686-0000 a\n1089-134686-0001 c\n", True),
]


@pytest.mark.parametrize(("reference", "hypothesis", "ids"), FIRST_WORDS)
def test_first_words_are_ids_only_if_they_can_be_nothing_else(
    reference: str, hypothesis: str, ids: bool, write
) -> None:  # type: ignore[no-untyped-def]
    pair = read_pair(write("ref.txt", reference), write("hyp.txt", hypothesis))
    lines = reference.splitlines()
    expected = {line.split()[0] for line in lines} if ids else {str(number + 1) for number in range(len(lines))}
    assert pair.references.keys() == expected
    if not ids:
        assert [u.text for u in pair.references.values()] == lines


def test_a_doubt_is_said_and_format_settles_it(write) -> None:  # type: ignore[no-untyped-def]
    ref, hyp = write("ref.txt", "5 people came\n"), write("hyp.txt", "5 people come\n")
    (doubt,) = read_pair(ref, hyp).doubts
    assert doubt == f"{hyp}: took 5 and the like for words; --format kaldi takes them for ids"
    pair = read_pair(ref, hyp, reference_format="kaldi", hypothesis_format="kaldi")
    assert (list(pair.references), pair.doubts) == (["5"], ())
    assert list(read_pair(ref, hyp, reference_format="text").hypotheses) == ["1"]


def test_ids_on_one_side_alone_are_still_an_error(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ScoringError, match=r"hyp.txt: its lines have no ids"):
        read_pair(write("ref.txt", "utt-1 a b\nutt-2 c\n"), write("hyp.txt", "a b\nc\n"))


def test_remarks_at_the_ends_of_lines_are_no_ids(write) -> None:  # type: ignore[no-untyped-def]
    path = write("ref.txt", "that is funny (laughs)\nit is (laughs)\n")
    assert list(read_pair(path, path).references) == ["1", "2"]


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("x/talk 1 A 0 9 a b\ny/talk 1 A 0 9 c\n", "/d/x/talk 1 0 1 a\n/d/y/talk 1 0 1 c\n"),
        ("/d/x/talk A A 0 9 a b\n/d/y/talk A A 0 9 c\n", "x/talk 1 0 1 a\ny/talk 1 0 1 c\n"),
        ("x/my_talk 1 A 0 9 a b\ny/my_talk 1 A 0 9 c\n", "/d/x/my_talk 1 0 1 a\ny/my_talk 1 0 1 c\n"),
    ],
)
def test_recordings_of_stm_and_ctm_find_each_other_by_the_ends_of_their_paths(
    reference: str, hypothesis: str, write
) -> None:  # type: ignore[no-untyped-def]
    pair = read_pair(write("ref.stm", reference), write("hyp.ctm", hypothesis))
    assert [u.text for u in pair.references.values()] == ["a b", "c"]
    assert {u.text for u in pair.hypotheses.values()} == {"a", "c"}
    assert pair.hypotheses.keys() == pair.references.keys()
    assert pair.extra == []


def test_two_channels_are_not_mixed_up(write) -> None:  # type: ignore[no-untyped-def]
    stm = write("ref.stm", "t 1 A 0 9 a\nt 2 B 0 9 b\n")
    pair = read_pair(stm, write("hyp.ctm", "t 2 0 1 b\nt 1 0 1 a\n"))
    assert {key: u.text for key, u in pair.hypotheses.items()} == {"t-1-0.00-9.00": "a", "t-2-0.00-9.00": "b"}


def test_ids_are_one_however_files_and_formats_spell_them(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [{"audio_filepath": f"/d/{name}", "text": name} for name in ("my talk.wav", "caf\u00e9.wav", "both.wav")]
    manifest = write("ref.jsonl", "\n".join(map(json.dumps, rows)))
    ctm = write("hyp.ctm", "my_talk 1 0 1 one\ncafe\u0301 1 0 1 two\nboth.wav 1 0 1 three\n")
    assert texts(read_pair(manifest, ctm))[1] == {"/d/my talk": "one", "/d/caf\u00e9": "two", "/d/both": "three"}
