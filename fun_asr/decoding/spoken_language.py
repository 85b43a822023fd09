"""Which language a segment is in, of a recording that is likely in one language."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["likeliest_language"]

# Of each language in what another segment says of the recording's. Of pairs of sentences in one language, 24 languages,
# the second is then in its own language for 91 %, against 82 % with the first one's language for both; and of a second
# sentence in another language, recognised by itself, 91 % are found. With 0.0001 it is 70 %.
FLOOR = 0.003


def likeliest_language(evidence: Mapping[str, float], prior: Mapping[str, float] | None = None) -> tuple[str, float]:
    """The language of a segment, and its probability.

    Arguments:
        evidence: the probability of each language by the segment alone, by code; at least one.
        prior: the same by another segment of its recording, which counts as strongly as it is sure; None where there is
            none.

    >>> likeliest_language({"de": 0.6, "nl": 0.4}, {"nl": 0.9, "de": 0.05})[0]
    'nl'
    >>> likeliest_language({"en": 0.999, "nl": 0.001}, {"nl": 0.9, "en": 0.0})[0]
    'en'
    """
    weighed = {code: p * (1.0 if prior is None else prior.get(code, 0.0) + FLOOR) for code, p in evidence.items()}
    total = sum(weighed.values())
    code = max(weighed, key=weighed.__getitem__)
    return code, weighed[code] / total if total else 0.0
