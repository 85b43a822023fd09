"""`fun-asr format` and `fun-asr train-punctuation`."""

from pathlib import Path

import click.testing
import pytest
import yaml

from fun_asr.cli import main


def run(*arguments: str | Path, stdin: bytes = b"") -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


def test_each_line_is_a_text() -> None:
    result = run("format", stdin=b"where are you\n\nI am here, as you see.\nyes")
    assert result.exit_code == 0
    assert result.stdout == "Where are you?\n\nI am here, as you see.\nYes.\n"


def test_its_own_output_passes_unchanged() -> None:
    once = run("format", stdin=b"the rain has stopped shall we go out i think so mr brown\n").stdout
    assert run("format", stdin=once.encode()).stdout == once


def test_text_in_another_encoding_is_one_line_of_error() -> None:
    result = run("format", stdin="é".encode("latin-1"))
    assert result.exit_code == 1
    assert result.stderr.startswith("fun-asr: error: standard input: not UTF-8")
    assert result.stderr.count("\n") == 1


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    result = run("format", "--model", tmp_path / "none", stdin=b"yes\n")
    assert result.exit_code == 2
    assert str(tmp_path / "none") in result.stderr


@pytest.fixture
def config(tmp_path: Path, tiny_punctuation_dir: Path) -> Path:
    (tmp_path / "book.txt").write_text("Who is it?\nIt is Anna, of course.\nCome in!\n" * 20, encoding="utf-8")
    values = {
        "output_dir": "run",
        "texts": [{"path": "book.txt", "dev": ["1-6"], "test": ["7-12"]}],
        "init": str(tiny_punctuation_dir),
        "windows": {"rows": 2, "window": 40},
        "steps": 3,
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "train.yaml"


def test_a_trained_model_formats(config: Path) -> None:
    result = run("train-punctuation", config)
    assert result.exit_code == 0
    assert "book.txt, with simulated pauses" in result.stderr
    final = Path(result.stdout.strip())
    assert final == config.parent / "run" / "final"
    assert run("format", "--model", final, stdin=b"who is it\n").stdout.lower().startswith("who")


def test_an_unknown_key_is_one_line_of_error(config: Path) -> None:
    config.write_text(config.read_text() + "speed: 3\n")
    result = run("train-punctuation", config)
    assert result.exit_code == 2
    assert "unknown key 'speed'" in result.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_text(encoding: str) -> None:
    result = run("format", stdin="where are you\r\nI am here, as you see.\r\n".encode(encoding))
    assert (result.exit_code, result.stdout) == (0, "Where are you?\nI am here, as you see.\n")
