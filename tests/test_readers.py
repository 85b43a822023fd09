"""Damaged files of every kind that is read: refused with one line, or read, in little time and memory."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bin" / "lib"))
from mutants import ODD_TEXTS, Reader, mutate, try_mutants
from readers import readers

ROOT = Path(__file__).parents[1]
READERS = list(readers(ROOT))
INPUTS = 200
FOUND = {
    "manifest": (305, 4487),
    "scored tsv": (44,),
    "scored csv": (2259, 2635),
    "scored json": (1475,),
    "scored jsonl": (4783,),
    "training config": (1475,),
    "model config": (4413,),
    "model directory's config": (930,),
    "journal": (606, 980),
    "AIFF": (42,),
    "CAF": (4448,),
}
"""Seeds of inputs that once made something else of a reader: nested brackets without end, a carriage return in a table,
an id of two lines, a list too short in a journal, a sampling rate of 1 Hz,
samples of 64 bits."""


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_files_are_read_or_refused(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / reader.file
    for whole in reader.wholes:
        path.write_bytes(whole)
        reader.read(path)  # else nothing that is damaged shows anything
    verdict = try_mutants(reader, INPUTS, tmp_path)
    assert verdict.problems == []
    assert verdict.read + verdict.refused == INPUTS
    for seed in FOUND.get(reader.name, ()):
        assert try_mutants(reader, 1, tmp_path, seed).problems == []


def test_what_is_wrong_is_noticed(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        if len(path.read_bytes()) != 8:
            raise KeyError("length")

    verdict = try_mutants(Reader("fragile", "x", [b"12345678"], read), 50, tmp_path)
    assert 0 < len(verdict.problems) < 50
    assert "KeyError: \"'length'\" in test_readers.py" in verdict.problems[0]


def test_a_reader_that_takes_the_process_with_it_is_noticed(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        if b"\0" in path.read_bytes():
            import os

            os._exit(3)

    verdict = try_mutants(Reader("deadly", "x", [b"12345678"], read), 50, tmp_path)
    assert 0 < len(verdict.problems) < 50
    assert all("the process ended with 3" in problem for problem in verdict.problems)
    assert verdict.read == 50 - len(verdict.problems)


def test_mutants_differ_and_come_again() -> None:
    import random

    made = [mutate(b"12345678" * 20, random.Random(seed)) for seed in range(100)]
    assert made == [mutate(b"12345678" * 20, random.Random(seed)) for seed in range(100)]
    assert len(set(made)) > 90
    assert any(text and text in content for content in made for text in ODD_TEXTS)
