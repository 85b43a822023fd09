"""Names of languages: Whisper's codes, and what else people call them by."""

from __future__ import annotations

import difflib
from collections.abc import Container

__all__ = ["LANGUAGE_NAMES", "language_code", "language_in", "unknown_language"]

LANGUAGE_NAMES = {
    "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian", "ko": "korean",
    "fr": "french", "ja": "japanese", "pt": "portuguese", "tr": "turkish", "pl": "polish", "ca": "catalan",
    "nl": "dutch", "ar": "arabic", "sv": "swedish", "it": "italian", "id": "indonesian", "hi": "hindi",
    "fi": "finnish", "vi": "vietnamese", "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay",
    "cs": "czech", "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian",
    "th": "thai", "ur": "urdu", "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian", "la": "latin",
    "mi": "maori", "ml": "malayalam", "cy": "welsh", "sk": "slovak", "te": "telugu", "fa": "persian",
    "lv": "latvian", "bn": "bengali", "sr": "serbian", "az": "azerbaijani", "sl": "slovenian", "kn": "kannada",
    "et": "estonian", "mk": "macedonian", "br": "breton", "eu": "basque", "is": "icelandic", "hy": "armenian",
    "ne": "nepali", "mn": "mongolian", "bs": "bosnian", "kk": "kazakh", "sq": "albanian", "sw": "swahili",
    "gl": "galician", "mr": "marathi", "pa": "punjabi", "si": "sinhala", "km": "khmer", "sn": "shona",
    "yo": "yoruba", "so": "somali", "af": "afrikaans", "oc": "occitan", "ka": "georgian", "be": "belarusian",
    "tg": "tajik", "sd": "sindhi", "gu": "gujarati", "am": "amharic", "yi": "yiddish", "lo": "lao",
    "uz": "uzbek", "fo": "faroese", "ht": "haitian creole", "ps": "pashto", "tk": "turkmen", "nn": "nynorsk",
    "mt": "maltese", "sa": "sanskrit", "lb": "luxembourgish", "my": "myanmar", "bo": "tibetan", "tl": "tagalog",
    "mg": "malagasy", "as": "assamese", "tt": "tatar", "haw": "hawaiian", "ln": "lingala", "ha": "hausa",
    "ba": "bashkir", "jw": "javanese", "su": "sundanese",
}  # fmt: skip
"""The languages of Whisper's vocabulary by their codes."""

_MORE_NAMES = {"ga": "irish", "yue": "cantonese"}
"""Languages that only other published models know."""

_WHOLES = {"yue": "zh"}
"""What models that do not tell a language apart take it for."""

_OTHER_NAMES = {
    "mandarin": "zh", "putonghua": "zh", "中文": "zh", "汉语": "zh", "漢語": "zh", "普通话": "zh",
    "國語": "zh", "粵語": "yue", "粤语": "yue", "deutsch": "de", "español": "es", "castellano": "es", "castilian": "es",
    "русский": "ru", "한국어": "ko", "français": "fr", "日本語": "ja", "português": "pt", "türkçe": "tr",
    "polski": "pl",
    "català": "ca", "valencian": "ca", "nederlands": "nl", "flemish": "nl", "vlaams": "nl", "العربية": "ar",
    "svenska": "sv", "italiano": "it", "bahasa indonesia": "id", "हिन्दी": "hi", "suomi": "fi", "tiếng việt": "vi",
    "עברית": "he", "українська": "uk", "ελληνικά": "el", "bahasa melayu": "ms", "čeština": "cs", "română": "ro",
    "moldavian": "ro", "moldovan": "ro", "dansk": "da", "magyar": "hu", "தமிழ்": "ta", "norsk": "no", "bokmål": "no",
    "ไทย": "th", "اردو": "ur", "hrvatski": "hr", "български": "bg", "lietuvių": "lt", "latina": "la", "cymraeg": "cy",
    "slovenčina": "sk", "తెలుగు": "te", "فارسی": "fa", "farsi": "fa", "latviešu": "lv", "বাংলা": "bn", "српски": "sr",
    "slovenščina": "sl", "ಕನ್ನಡ": "kn", "eesti": "et", "македонски": "mk", "brezhoneg": "br", "euskara": "eu",
    "íslenska": "is", "հայերեն": "hy", "नेपाली": "ne", "монгол": "mn", "bosanski": "bs", "қазақша": "kk",
    "shqip": "sq",
    "kiswahili": "sw", "galego": "gl", "मराठी": "mr", "ਪੰਜਾਬੀ": "pa", "panjabi": "pa", "sinhalese": "si",
    "ქართული": "ka",
    "беларуская": "be", "afrikaans": "af", "letzeburgesch": "lb", "pushto": "ps", "burmese": "my", "haitian": "ht",
    "norwegian nynorsk": "nn", "filipino": "tl", "malti": "mt",
    "gaeilge": "ga",
}  # fmt: skip
"""In the language itself, and other English ones."""

# Subtags that Whisper calls otherwise, or does not tell apart.
_SUBTAGS = {"jv": "jw", "nb": "no", "fil": "tl"}


def language_code(language: str) -> str | None:
    """The code of a language, in any case; None when it is unknown.

    Arguments:
        language: a code of ISO 639-1, 639-2 or 639-3, a BCP 47 tag, or the language's name in English or in itself.

    >>> language_code("German"), language_code("nl-NL"), language_code("jpn"), language_code("klingon")
    ('de', 'nl', 'ja', None)
    """
    lowered = " ".join(language.split()).casefold()
    if lowered in LANGUAGE_NAMES or lowered in _MORE_NAMES:
        return lowered
    if lowered in _SUBTAGS:
        return _SUBTAGS[lowered]
    names = LANGUAGE_NAMES | _MORE_NAMES
    named = _OTHER_NAMES.get(lowered) or next((code for code, name in names.items() if name == lowered), None)
    return named or _of_tag(lowered)


def _of_tag(tag: str) -> str | None:
    # Imported here: few name a language in this way, and a command should not wait for it.
    import langcodes
    from langcodes.tag_parser import LanguageTagError

    if not tag.isascii():
        return None
    try:
        own = langcodes.Language.get(tag)
        if not own.is_valid():
            return None
        # Of a macrolanguage's members, such as Egyptian Arabic, models know the whole.
        whole = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True))
    except (LanguageTagError, ValueError):
        return None
    for subtag in (own.language, whole.language):
        code = _SUBTAGS.get(subtag or "", subtag)
        if code in LANGUAGE_NAMES or code in _MORE_NAMES:
            return code
    return None


def language_in(languages: Container[str], code: str) -> str:
    """The code under which a model with some languages knows one; itself where it does not.

    >>> language_in(("en", "zh"), "yue"), language_in(("zh", "yue"), "yue"), language_in(("en",), "de")
    ('zh', 'yue', 'de')
    """
    whole = _WHOLES.get(code, code)
    return whole if code not in languages and whole in languages else code


def unknown_language(language: str) -> str:
    """What is to be said of a name that is no known language's, with what it may have been meant to be.

    >>> unknown_language("Germann")
    "unknown language 'Germann'; did you mean de (german)?"
    """
    lowered = language.strip().casefold()
    head = lowered.replace("_", "-").split("-")[0]
    of_name = {name: code for code, name in LANGUAGE_NAMES.items()} | _OTHER_NAMES
    close = [of_name[name] for name in difflib.get_close_matches(lowered, of_name, n=2, cutoff=0.7)]
    if not close and len(head) <= 3:
        close = difflib.get_close_matches(head, LANGUAGE_NAMES, n=2, cutoff=0.5)
    hints = [f"{code} ({LANGUAGE_NAMES[code]})" for code in dict.fromkeys(close)]
    advice = f"did you mean {' or '.join(hints)}?" if hints else "use a code such as de, a tag such as pt-BR or a name"
    return f"unknown language {language!r}; {advice}"
