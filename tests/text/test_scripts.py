"""Languages by their scripts, and what is a word in them."""

import pytest

from fun_asr.text.scripts import language_of_script, written_units


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气很好。", "zh"), ("今日は天気がいい", "ja"), ("東京タワー", "ja"), ("안녕하세요 hello", "ko"),
        ("สวัสดีครับ", "th"), ("नमस्ते दुनिया", "hi"), ("Καλημέρα", "el"), ("مرحبا", "ar"), ("hello world", None),
        ("用 Python 写", "zh"), ("he said 好 to me", None), ("12:30 ...", None), ("", None),
    ],
)  # fmt: skip
def test_the_script_of_most_letters_decides(text: str, language: str | None) -> None:
    assert language_of_script(text) == language


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今天很好。", ["今", "天", "很", "好。"]),
        ("It's fine, yes.", ["It's", "fine,", "yes."]),
        ("我用GPU写", ["我", "用", "GPU", "写"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("“你好”吗", ["“", "你", "好”", "吗"]),
        ("naïve  café", ["naïve", "café"]),
        ("", []),
    ],
)
def test_words_are_found_with_their_punctuation(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in written_units(text)] == words
