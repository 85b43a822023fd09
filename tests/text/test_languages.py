"""Languages by code, tag and name, and what is said of others."""

import subprocess
import sys

import pytest

from fun_asr.text.languages import language_code, unknown_language


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("en", "en"), ("German", "de"), (" ZH ", "zh"), ("yue", "yue"), ("Cantonese", "yue"),
        ("haitian creole", "ht"), ("nl-NL", "nl"),
        ("sv-SE", "sv"), ("pt-BR", "pt"), ("en_US", "en"), ("zh-CN", "zh"), ("zh-Hant", "zh"), ("zh-yue", "yue"),
        ("粵語", "yue"),
        ("eng", "en"), ("deu", "de"), ("ger", "de"), ("jpn", "ja"), ("cmn", "zh"),
        ("cmn-Hans-CN", "zh"), ("yue-HK", "yue"),
        ("arb", "ar"), ("fas", "fa"), ("per", "fa"), ("zsm", "ms"), ("nb-NO", "no"), ("nob", "no"),
        ("fil-PH", "tl"), ("iw", "he"), ("in", "id"), ("jav", "jw"), ("Mandarin", "zh"), ("Deutsch", "de"),
        ("Français", "fr"), ("日本語", "ja"), ("العربية", "ar"), ("haw", "haw"),
        ("ga", "ga"), ("Irish", "ga"), ("ga-IE", "ga"), ("gle", "ga"), ("Gaeilge", "ga"),
        ("klingon", None), ("tlh", None), ("xx-YY", None), ("", None), ("de-", None), ("e n", None),
    ],
)  # fmt: skip
def test_language_code(given: str, code: str | None) -> None:
    assert language_code(given) == code


@pytest.mark.parametrize(
    ("given", "hint"),
    [("Germann", "de (german)"), ("Japanes", "ja (japanese)"), ("Espanol", "es (spanish)"), ("engl", "english")],
)
def test_what_may_have_been_meant_is_named(given: str, hint: str) -> None:
    assert repr(given) in unknown_language(given)
    assert hint in unknown_language(given)
    assert "use a code such as de" in unknown_language("klingon123")


def test_names_and_codes_do_not_wait_for_the_registry() -> None:
    code = (
        "import sys; from fun_asr.text.languages import language_code as f; f('de'); print('langcodes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
