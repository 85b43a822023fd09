"""A segment's language, beside that of its recording."""

import pytest

from fun_asr.decoding.spoken_language import likeliest_language


def test_alone_the_likeliest_counts() -> None:
    assert likeliest_language({"de": 0.6, "nl": 0.4}) == ("de", 0.6)


def test_a_doubtful_segment_keeps_its_recording_s_language() -> None:
    code, probability = likeliest_language({"de": 0.6, "nl": 0.4}, {"nl": 0.97, "de": 0.02})
    assert code == "nl"
    assert probability > 0.9


def test_a_sure_one_has_its_own() -> None:
    assert likeliest_language({"en": 0.999, "nl": 0.0005}, {"nl": 0.99})[0] == "en"


def test_what_a_doubtful_segment_says_binds_the_others_less() -> None:
    evidence = {"de": 0.9, "nl": 0.1}
    assert likeliest_language(evidence, {"nl": 0.4, "de": 0.3})[0] == "de"
    assert likeliest_language(evidence, {"nl": 0.99, "de": 0.005})[0] == "nl"


def test_probabilities_stay_within_those_asked_for() -> None:
    assert likeliest_language({"en": 0.01, "de": 0.04}) == ("de", pytest.approx(0.8))
