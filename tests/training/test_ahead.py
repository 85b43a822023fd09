"""Results of threads come in order, and an error in its turn."""

import threading
import time
from collections.abc import Iterator

import pytest

from fun_asr.training.ahead import made_ahead


@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.002 * (5 - item % 5))
        return item * item

    assert list(made_ahead(range(23), slow_first, threads)) == [(n, n * n) for n in range(23)]


def test_threads_work_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    assert [made for _, made in made_ahead(range(6), lambda _: together.wait() >= 0, 3)] == [True] * 6


def test_an_error_comes_after_what_was_made_before_it() -> None:
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        for item, _ in made_ahead([2, 1, 0, 5], lambda n: 10 // n, 2):
            seen.append(item)
    assert seen == [2, 1]


def test_no_more_is_read_than_is_kept_and_closing_stops() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for n in range(1000):
            read.append(n)
            yield n

    made = made_ahead(items(), lambda n: n, 2)
    assert next(made) == (0, 0)
    made.close()
    assert len(read) <= 6
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())
