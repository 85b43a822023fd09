"""docs/measurements.md: every table can be made again, and the README's figures are those of it."""

import re
from pathlib import Path

import pytest

from tests.test_docs import split_page

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
SECTIONS = {part.splitlines()[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
ABOUT = {"Data", "The README's tables"}
"""Sections whose tables are not measured."""


def table_rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]


@pytest.mark.parametrize("section", sorted(SECTIONS.keys() - ABOUT))
def test_a_section_names_the_command_that_makes_its_tables(section: str) -> None:
    commands = [command for block in split_page(SECTIONS[section])[1] for _, command in block.commands()]
    assert any(re.search(r"\b(?:bin/[\w-]+|fun-asr [\w-]+)", command) for command in commands)


def test_the_data_of_every_command_is_described() -> None:
    described = {row[0] for row in table_rows(SECTIONS["Data"])}
    for section, text in SECTIONS.items():
        for _, command in (found for block in split_page(text)[1] for found in block.commands()):
            for name in re.findall(r"(?<![\w/.-])dev/[\w-]+\.jsonl|(?<=--noise )\S+|(?<=--text )\S+", command):
                assert name in described, (section, name)


def test_the_readme_has_the_figures_of_the_measurements() -> None:
    measured = {(row[0], row[1]): row for row in table_rows(SECTIONS["Accuracy and speed"]) if len(row) == 6}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [row for row in table_rows(readme.partition("## How good, how fast")[2].partition("\n## ")[0])[1:] if row]
    assert len(rows) >= 4
    for system, *rates, speeds in rows:
        for name, rate, speed in zip(("libri", "cv", "so762"), rates, speeds.split(", "), strict=True):
            _, _, wer, interval, factor, _ = measured[system, name]
            assert rate == f"{wer} ({interval})" and speed == factor


def test_every_measured_table_of_the_readme_is_named() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = {part.splitlines()[0]: part for part in re.split(r"^## ", readme, flags=re.MULTILINE)[1:]}
    with_figures = [name for name, part in parts.items() if re.search(r"^\|.*\| [\d.]+ ", part, re.MULTILINE)]
    named = SECTIONS["The README's tables"]
    assert with_figures and [name for name in with_figures if name not in named] == []
