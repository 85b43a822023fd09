"""E-mail addresses, web addresses, file names and IP addresses."""

from __future__ import annotations

from fun_asr.text.itn.english.lexicon import DIGITS, FUNCTION_WORDS, NUMBER_WORDS, TEENS, TENS, word_set
from fun_asr.text.itn.english.numerals import cardinal, digit_words, tens
from fun_asr.text.itn.english.sentence import Match, Sentence
from fun_asr.text.itn.english.telephone import read_compound

__all__ = ["email", "ip_address", "url"]

_DOMAINS = word_set(
    """com org net edu gov mil int io ai co uk us ca au nz de fr es it nl be ch at se no dk fi pl pt ie eu ru cn jp
    kr in br mx za tv me info biz app dev cloud online shop site xyz ly fm gg tech blog"""
)
_EXTENSIONS = word_set("txt pdf csv doc docx xls xlsx jpg jpeg png gif mp3 mp4 wav zip exe html json xml py js")
_SIGNS = {"dot": ".", "underscore": "_", "dash": "-", "hyphen": "-"}
_SEPARATORS = frozenset(("dot", "point"))
"""Words between the numbers of an IP address."""
_LONGEST = 40
"""Words; a recogniser caught in a loop may repeat "dot com" a thousand times."""
_ARTICLES = frozenset(("a", "an", "the"))
_NO_USER = FUNCTION_WORDS | word_set(
    """available look looking work works working live lives worked find found site website web page company email
    address mail go visit check called named meet met stay stayed study studied"""
)
"""Words before "at" that name nobody."""


def email(sentence: Sentence, i: int) -> Match | None:
    """john.smith@gmail.com, in small letters: a name that is spelled for an address is no name in a sentence."""
    if "at" not in sentence.lowers or "dot" not in sentence.lowers:
        return None
    local = _label(sentence, i, _NO_USER, "at", *_SIGNS)
    if local is None:
        return None
    text, end = local
    while end - i < _LONGEST and (sign := _SIGNS.get(sentence.at(end))) is not None:
        following = _label(sentence, end + 1, _ARTICLES, "at", *_SIGNS) if sentence.linked(end + 1) else None
        if following is None:
            return None
        text, end = text + sign + following[0], following[1]
    if sentence.at(end) != "at" or not sentence.linked(end + 1):
        return None
    host = _host(sentence, end + 1, _ARTICLES)
    return Match(host[1], ((f"{text}@{host[0]}".lower(), host[1] - i),)) if host is not None else None


def url(sentence: Sentence, i: int) -> Match | None:
    """www.example.com/about, https://github.com, readme.txt."""
    scheme, start = _scheme(sentence, i)
    if not scheme and "dot" not in sentence.lowers:
        return None
    prefix, start = _www(sentence, start)
    host = _host(sentence, start, FUNCTION_WORDS)
    if host is None and scheme and (address := ip_address(sentence, start)) is not None:
        host = address.pieces[0][0], address.end
    if host is None:
        if not scheme or sentence.at(start) != "localhost":
            return None if scheme or prefix else _file(sentence, i)
        host = "localhost", start + 1
    text, end = scheme + prefix + host[0], host[1]
    while sentence.at(end) in ("slash", "/") and sentence.linked(end + 1):
        part = _label(sentence, end + 1, None, "slash", *_SIGNS)
        if part is None:
            break
        text, end = f"{text}/{part[0]}", part[1]
        while (sign := _SIGNS.get(sentence.at(end))) is not None:
            more = _label(sentence, end + 1, None, "slash", *_SIGNS)
            if more is None:
                break
            text, end = text + sign + more[0], more[1]
    return Match(end, ((text, end - i),))


def ip_address(sentence: Sentence, i: int) -> Match | None:
    """127.0.0.1, 192.168.1.254:8080, 10.0.0.0/8."""
    if not _SEPARATORS & sentence.lowers:
        return None
    parts: list[str] = []
    end = i
    while len(parts) < 4:
        found = _octet(sentence, end)
        if found is None:
            return None
        parts.append(found[0])
        end = found[1]
        if len(parts) < 4:
            if sentence.at(end) not in _SEPARATORS or not sentence.linked(end + 1):
                return None
            end += 1
    text = ".".join(parts)
    if sentence.at(end) == "slash" and (size := tens(sentence.at, end + 1)) is not None and size[0] <= 32:
        return Match(size[1], ((f"{text}/{size[0]}", size[1] - i),))
    if sentence.at(end) == "colon" and sentence.linked(end + 1) and (port := digit_words(sentence, end + 1)):
        return Match(port[-1][1], ((f"{text}:{''.join(digit for digit, _ in port)}", port[-1][1] - i),))
    return Match(end, ((text, end - i),))


def _octet(sentence: Sentence, i: int) -> tuple[str, int] | None:
    """A number up to 255, said digit by digit, by its parts ("one ninety two") or as one number."""
    spoken = digit_words(sentence, i)
    found = [("".join(digit for digit, _ in spoken), spoken[-1][1])] if spoken else []
    compound = read_compound(sentence, i, pointed=True)
    if compound is not None:
        found.append(compound)
    whole = cardinal(sentence.reader(i), i)
    if whole is not None and sentence.word(i) != "a":
        found.append((str(whole[0]), whole[1]))
    if not found:
        return None
    best = max(found, key=lambda item: item[1])
    return best if int(best[0]) <= 255 else None


def _host(sentence: Sentence, i: int, banned: frozenset[str]) -> tuple[str, int] | None:
    """Labels with dots between them, the last one a known domain."""
    first = _label(sentence, i, banned, "dot", "dash", "hyphen")
    if first is None:
        return None
    text, end = first
    known: tuple[str, int] | None = None
    while end - i < _LONGEST and (sign := {"dot": ".", "dash": "-", "hyphen": "-"}.get(sentence.at(end))) is not None:
        if not sentence.linked(end + 1):
            break
        label = _label(sentence, end + 1, None, "dot", "slash", "dash", "hyphen")
        letters = _domain_letters(sentence, end + 1)
        if sign == "." and letters is not None:
            label = letters
        if label is None:
            break
        text, end = text + sign + label[0], label[1]
        if sign == "." and label[0].lower() in _DOMAINS:
            known = text, end
    return known


def _domain_letters(sentence: Sentence, i: int) -> tuple[str, int] | None:
    """A two-letter domain spelled out: "u k"."""
    pair = sentence.at(i) + sentence.at(i + 1)
    spelled = len(sentence.at(i)) == 1 and len(sentence.at(i + 1)) == 1
    return (pair, i + 2) if spelled and pair in _DOMAINS else None


def _file(sentence: Sentence, i: int) -> Match | None:
    if sentence.at(i + 1) != "dot" or sentence.word(i) in FUNCTION_WORDS:
        return None
    word, end = sentence.at(i + 2), i + 3
    if len(word) == 1:
        word = "".join(sentence.at(i + 2 + k) for k in range(3))
        end = i + 5
    return Match(end, ((f"{sentence.tokens[i].core}.{word}", end - i),)) if word in _EXTENSIONS else None


def _scheme(sentence: Sentence, i: int) -> tuple[str, int]:
    read = sentence.reader(i)
    for name in ("https", "http"):
        spelled = all(read(i + k) == letter for k, letter in enumerate(name))
        end = i + len(name) if spelled else i + 1
        if (spelled or read(i) == name) and read(end) == "colon" and read(end + 1) == read(end + 2) == "slash":
            return f"{name}://", end + 3
    return "", i


def _www(sentence: Sentence, i: int) -> tuple[str, int]:
    read = sentence.reader(i)
    end = i + 3 if all(read(i + k) == "w" for k in range(3)) else i + 1 if read(i) == "www" else i
    return ("www.", end + 1) if end > i and read(end) == "dot" else ("", i)


def _label(sentence: Sentence, i: int, banned: frozenset[str] | None, *ends: str) -> tuple[str, int] | None:
    """Letters spelled out, then a word, then digits, up to one of the words `ends`.

    Without a set of `banned` words the label stands behind a sign, where any word will do and anything may follow.
    """
    end = i
    text = ""
    read = sentence.reader(i)
    while len(read(end)) == 1 and read(end).isalpha():
        text += sentence.tokens[end].core
        end += 1
    word = read(end)
    named = word and word not in ends and word not in NUMBER_WORDS and (banned is None or word not in banned)
    if named and not (text and banned is None):
        text += sentence.tokens[end].core
        end += 1
    while (found := _figures(sentence, end, i)) is not None:
        text, end = text + found[0], found[1]
    if not text or (banned is not None and read(end) not in ends):
        return None
    return text, end


def _figures(sentence: Sentence, i: int, start: int) -> tuple[str, int] | None:
    word = sentence.word(i) if i == start else sentence.at(i)
    if word in DIGITS and word != "o":
        return str(DIGITS[word]), i + 1
    if word in TENS or word in TEENS:
        found = tens(sentence.reader(i), i)
        return (str(found[0]), found[1]) if found is not None else None
    return None
