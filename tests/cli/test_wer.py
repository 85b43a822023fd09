"""`fun-asr wer` as its user sees it: the report, messages, exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from fun_asr.cli import main

REFERENCES = "the cat sat (ada-1)\non the mat (ada-2)\nwith a hat (bo-1)\nand a bat (bo-2)\n"
HYPOTHESES = "the cat sat (ada-1)\non a mat (ada-2)\nwith hat (bo-1)\nand a a bat (bo-2)\n"

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def wer(*arguments: str | Path) -> click.testing.Result:
    return CliRunner().invoke(main, ["wer", *map(str, arguments)])


@pytest.fixture
def pair(write: Write) -> list[str]:
    return ["-r", str(write("ref.trn", REFERENCES)), "-h", str(write("hyp.trn", HYPOTHESES))]


def test_kaldi_lines_come_first(pair: list[str]) -> None:
    result = wer(*pair)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:3] == [
        "%WER 25.00 [ 3 / 12, 1 ins, 1 del, 1 sub ]",
        "%SER 75.00 [ 3 / 4 ]",
        "Scored 4 sentences, 0 not present in hyp.",
    ]
    assert "%WER 25.00 95% Conf Interval [ " in result.stdout
    assert "       1  the -> a\n" in result.stdout


def test_groups_and_speakers(pair: list[str]) -> None:
    lines = wer(*pair, "--by", "speaker", "--resample", "speaker").stdout.splitlines()
    (row,) = (line for line in lines if line.startswith("bo "))
    assert row.split() == ["bo", "2", "6", "33.33", "-", "1", "1", "0", "100.00"]


def test_json_says_the_same(pair: list[str]) -> None:
    report = json.loads(wer(*pair, "--json", "--by", "speaker", "-a").stdout)
    assert (report["error_rate"], report["errors"], report["sentences"]) == (0.25, 3, 4)
    assert [group["name"] for group in report["groups"]["speaker"]] == ["ada", "bo"]
    low, high = report["interval"]
    assert 0 <= low < 0.25 < high
    assert report["utterances"][2]["alignment"] == [["with", "with"], ["a", None], ["hat", "hat"]]
    assert report["confusions"]["insertions"] == [{"hypothesis": "a", "count": 1}]


def test_alignments_in_the_form_of_sclite(pair: list[str]) -> None:
    printed = wer(*pair, "-a", "--bootstrap", "0", "--confusions", "0").stdout
    assert "Conf Interval" not in printed
    assert printed.endswith(
        "id: (bo-1)\n"
        "Scores: (#C #S #D #I) 2 0 1 0\n"
        "REF:  with A hat\n"
        "HYP:  with * hat\n"
        "Eval:      D\n"
        "\n"
        "id: (bo-2)\n"
        "Scores: (#C #S #D #I) 3 0 0 1\n"
        "REF:  and a * bat\n"
        "HYP:  and a A bat\n"
        "Eval:       I\n"
    )


def test_the_same_seed_gives_the_same_report(pair: list[str]) -> None:
    assert wer(*pair, "--seed", "5").stdout == wer(*pair, "--seed", "5").stdout


def test_two_systems(pair: list[str], write: Write) -> None:
    result = wer(*pair, "--compare", write("perfect.trn", REFERENCES))
    assert "Set2: %WER 0.00 [ 0 / 12, 0 ins, 0 del, 0 sub ]" in result.stdout
    assert "Set2 - Set1: -25.00 95% Conf Interval [ " in result.stdout
    assert "Probability of Set2 improving Set1: 0.99" in result.stdout


def test_weighted_mean_of_sets(write: Write) -> None:
    sets = [
        ("a", "x y z w", "x y z w", 1.0),
        ("b", "x y", "x v", 1.0),
    ]
    arguments: list[str | Path] = []
    for name, reference, hypothesis, duration in sets:
        line = {"id": "1", "text": reference, "pred_text": hypothesis, "duration": duration}
        path = write(f"{name}.jsonl", json.dumps(line) + "\n")
        arguments += ["-r", path, "-h", path]
    result = wer(*arguments, "--weights", "a=3,b=1", "--by", "set")
    assert result.stdout.startswith("%WER 16.67 [ 1 / 6, ")
    assert "Weighted %WER 12.50 (0.75 a, 0.25 b; all words of each)" in result.stdout
    assert wer(*arguments, "--weights", "c=1").stderr == "fun-asr: error: --weights: there is no set c, but a, b\n"
    assert "'a' is not NAME=WEIGHT" in wer(*arguments, "--weights", "a").stderr


def test_within_a_set_utterances_weigh_by_duration(write: Write) -> None:
    rows = [("1", "x y", "x v", 3.0), ("2", "x y z w", "x y z w", 1.0)]
    lines = [{"id": i, "text": r, "pred_text": h, "duration": d} for i, r, h, d in rows]
    path = write("s.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    result = wer("-r", path, "-h", path, "--weights", "s=1", "--within", "duration")
    assert "Weighted %WER 37.50" in result.stdout


def test_normalizer(write: Write) -> None:
    ref = write("ref.txt", "he paid twenty five dollars\n")
    hyp = write("hyp.txt", "He paid $25.\n")
    assert wer("-r", ref, "-h", hyp).stdout.startswith("%WER 80.00 [ 4 / 5")
    assert wer("-r", ref, "-h", hyp, "--normalizer", "english").stdout.startswith("%WER 0.00 [ 0 / 3")


def test_characters(write: Write) -> None:
    ref, hyp = write("ref.txt", "你好 世界\n"), write("hyp.txt", "你好世间\n")
    assert wer("-r", ref, "-h", hyp).stdout.startswith("%CER 25.00 [ 1 / 4, 0 ins, 0 del, 1 sub ]")
    assert wer("-r", ref, "-h", hyp, "--words").stdout.startswith("%WER 100.00 [ 2 / 2")


def test_what_is_missing_is_listed(write: Write) -> None:
    ref, hyp = write("ref.trn", REFERENCES), write("hyp.trn", "the cat sat (ada-1)\nx (z-1)\n")
    result = wer("-r", ref, "-h", hyp)
    assert result.exit_code == 0
    assert result.stdout.startswith("%WER 75.00 [ 9 / 12, 0 ins, 9 del, 0 sub ]\n")
    assert "\nScored 4 sentences, 3 not present in hyp.\n" in result.stdout
    assert result.stderr == (
        f"fun-asr: {hyp}: has no hypothesis for 3: ada-2 bo-1 bo-2; scored as deletions\n"
        f"fun-asr: {hyp}: not scored, for want of a reference: 1: z-1\n"
    )
    ignored = wer("-r", ref, "-h", hyp, "--ignore_missing")
    assert ignored.stdout.startswith("%WER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ] [PARTIAL]\n")


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("no ids here\n", "ref.trn:1: has no utterance id"),
        ("", "ref.trn: holds no utterances"),
        ("x (other-1)\n", "hyp.trn: none of its 4 ids is in"),
        ("x (ada-1)\n (ada-2)\n", "ref.trn: the reference of ada-2 is empty"),
        ("{ x (ada-1)\n", "the reference of ada-1 has a { without its }"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    reference: str, problem: str, pair: list[str], write: Write, tmp_path: Path
) -> None:
    write("ref.trn", reference)
    result = wer(*pair, "--html", tmp_path / "report.html")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("fun-asr: error: ")
    assert problem in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hyp.trn", "ref.trn"]


def test_a_wrong_encoding_is_one_line(pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "hyp.trn").write_bytes("caf\xe9 (ada-1)\n".encode("latin-1"))
    result = wer(*pair)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"fun-asr: error: {tmp_path}/hyp.trn:1: is not UTF-8 (byte 0xe9); convert it, for example with iconv\n"
    )


def test_a_report_that_cannot_be_written_is_one_line(pair: list[str], tmp_path: Path) -> None:
    result = wer(*pair, "--html", tmp_path / "ref.trn" / "report.html")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"fun-asr: error: {tmp_path}/ref.trn/report.html: cannot be written: ")


def test_a_report_is_written_beside_the_figures(pair: list[str], tmp_path: Path) -> None:
    result = wer(*pair, "--html", tmp_path / "new" / "report.html")
    assert result.stdout == wer(*pair).stdout
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_many_problems_are_cut_short(pair: list[str], write: Write) -> None:
    write("ref.trn", "bad\n" * 100)
    lines = wer(*pair).stderr.splitlines()
    assert (len(lines), lines[-1]) == (21, "fun-asr: error: and 80 more")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-r", "{tmp}/none", "-h", "{tmp}/none"], "does not exist"),
        (["-h", "{tmp}"], "Missing option '-r'"),
        (["-r", "{tmp}", "-h", "{tmp}", "-h", "{tmp}"], "1 --ref need as many --hyp, not 2"),
        (["-r", "{tmp}", "-h", "{tmp}", "-c", "--words"], "exclude each other"),
        (["-r", "{tmp}", "-h", "{tmp}"], "is a folder without .txt, .srt or .vtt files or transcripts in .json"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = wer(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_help_is_not_h() -> None:
    result = wer("--help")
    assert result.exit_code == 0
    assert "-h, --hyp" in result.stdout


def test_silence_alone_is_scored_where_it_is_allowed(write: Write, tmp_path: Path) -> None:
    ref, hyp = write("ref.trn", " (a-1)\n (a-2)\n"), write("hyp.trn", "well now (a-1)\n (a-2)\n")
    refused = wer("-r", ref, "-h", hyp)
    assert (refused.exit_code, refused.stderr.count("--allow_empty scores it as silence")) == (2, 2)
    result = wer("-r", ref, "-h", hyp, "--allow_empty", "-a", "--by", "speaker", "--html", tmp_path / "report.html")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["%WER nan [ 2 / 0, 2 ins, 0 del, 0 sub ]", "%SER 50.00 [ 1 / 2 ]"]
    report = json.loads(wer("-r", ref, "-h", hyp, "--allow_empty", "--json", "--compare", ref).stdout)
    assert (report["error_rate"], report["insertions"], report["interval"]) == (None, 2, None)
    assert report["comparison"]["second"]["errors"] == 0


def test_what_was_guessed_is_said(write: Write) -> None:
    ref, hyp = write("ref.txt", "5 people came\n9 left\n"), write("hyp.txt", "5 people come\n9 left\n")
    result = wer("-r", ref, "-h", hyp)
    assert result.stdout.startswith("%WER 20.00 [ 1 / 5, 0 ins, 0 del, 1 sub ]")
    assert result.stderr == f"fun-asr: {hyp}: took 5 and the like for words; --format kaldi takes them for ids\n"
    assert wer("-r", ref, "-h", hyp, "--format", "kaldi").stdout.startswith("%WER 33.33 [ 1 / 3")


def test_marks_are_an_option(write: Write) -> None:
    ref, hyp = write("ref.txt", "हिन्दी बोलता\n"), write("hyp.txt", "हिन्दी बोलती\n")
    assert wer("-r", ref, "-h", hyp, "--normalizer", "basic_marks").stdout.startswith("%WER 50.00 [ 1 / 2")
    assert wer("-r", ref, "-h", hyp, "--normalizer", "basic").stdout.startswith("%WER 0.00 [")


def test_sets_are_called_like_their_folders(tmp_path: Path) -> None:
    for name in ("v1.0", "v1.5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("x y\n")
    first, second = tmp_path / "v1.0", tmp_path / "v1.5"
    lines = wer("-r", first, "-h", first, "-r", second, "-h", second, "--by", "set").stdout.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["v1.0", "v1.5"]
