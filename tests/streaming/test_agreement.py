"""Local agreement, on hypotheses written by hand."""

from fun_asr.streaming.agreement import Agreement
from fun_asr.transcript import Word


def words(text: str, start: float = 0.0, seconds: float = 0.4) -> list[Word]:
    return [
        Word(text=word, start=start + i * seconds, end=start + (i + 1) * seconds, confidence=None)
        for i, word in enumerate(text.split())
    ]


def texts(found: list[Word]) -> list[str]:
    return [word.text for word in found]


def test_words_agreed_twice_and_far_from_the_end_are_committed() -> None:
    agreement = Agreement()
    assert agreement.take(words("We hold"), 0.0, 1.0)[0] == []
    new, likely = agreement.take(words("we hold our grand"), 0.0, 1.7)
    assert (texts(new), texts(likely)) == (["we", "hold"], ["our"])
    new, likely = agreement.take(words("we hold our grandfathers in"), 0.0, 2.1)
    assert (texts(new), texts(likely)) == (["our"], ["grandfathers"])


def test_committed_words_are_found_again_in_other_words_and_after_the_window_moved() -> None:
    agreement = Agreement()
    for _ in range(2):
        agreement.take(words("so many things lose themselves"), 0.0, 4.0)
    assert texts(agreement.committed) == ["so", "many", "things", "lose", "themselves"]
    # Heard otherwise now, and only from the third word on.
    later = words("thinks loose themselves and get lost", start=0.8)
    agreement.take(later, 0.8, 5.0)
    assert texts(agreement.take(later, 0.8, 5.0)[0]) == ["and", "get", "lost"]


def test_what_is_said_again_in_no_time_is_left_out() -> None:
    agreement = Agreement()
    looped = [*words("it is probable that"), *words("it is probable that it is probable", start=1.6, seconds=0.05)]
    agreement.take(looped, 0.0, 4.0)
    new, likely = agreement.take(looped, 0.0, 4.0)
    assert texts(new + likely) == ["it", "is", "probable", "that"]


def test_what_is_said_twice_stays() -> None:
    agreement = Agreement()
    said = words("i do not know i do not know what")
    agreement.take(said, 0.0, 6.0)
    assert texts(agreement.take(said, 0.0, 6.0)[0]) == texts(said)
