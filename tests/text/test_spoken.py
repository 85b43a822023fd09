"""How written words are said."""

import subprocess
import sys

import pytest

from fun_asr.text.spoken import spoken_form


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello,", "hello"),
        ("“don’t”", "don't"),
        ("'Tis", "tis"),
        ("twenty-five", "twenty five"),
        ("café", "cafe"),
        ("Mr.", "mister"),
        ("U.S.", "u s"),
        ("AT&T", "at and t"),
        ("25", "twenty five"),
        ("0", "zero"),
        ("007", "zero zero seven"),
        ("101", "one hundred one"),
        ("1984", "nineteen eighty four"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2005", "two thousand five"),
        ("2,015", "two thousand fifteen"),
        ("1900th", "one thousand nine hundredth"),
        ("007th", "zero zero seventh"),
        ("0.05", "zero point zero five"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("1980s", "nineteen eighties"),
        ("3.14", "three point one four"),
        ("3rd", "third"),
        ("21st", "twenty first"),
        ("40th", "fortieth"),
        ("$1", "one dollar"),
        ("$1,000", "one thousand dollars"),
        ("$5.50", "five dollars and fifty cents"),
        ("£2.01", "two pounds and one penny"),
        ("50%", "fifty percent"),
        ("5:30", "five thirty"),
        ("12:05", "twelve oh five"),
        ("7:00", "seven o'clock"),
        ("—", ""),
        ("", ""),
        ("...", ""),
        ("日本", None),
        ("Москва", None),
    ],
)
def test_spoken_form(written: str, spoken: str | None) -> None:
    assert spoken_form(written) == spoken


@pytest.mark.parametrize("digits", ["9" * 15, "9" * 16, "0" * 40, "1" * 500, "1" * 5000])
def test_long_numbers_are_said_somehow(digits: str) -> None:
    for written in (digits, f"${digits}", f"{digits}th", f"{digits}0s", f"0.{digits}"):
        spoken = spoken_form(written)
        assert spoken
        assert set(spoken) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_words_do_not_wait_for_the_numbers() -> None:
    code = "import sys; from fun_asr.text import spoken; spoken.spoken_text('Yes.'); print('num2words' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
