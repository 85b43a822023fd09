"""How much audio there is in recordings, found out beside the work on them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping

__all__ = ["Lengths"]

LOOKED_AT = 1000  # recordings; the others are guessed from their bytes


class Lengths:
    """Looks into recordings for their lengths, in a thread of its own.

    Arguments:
        sizes: bytes of each recording, by path; None where they are not known.
    """

    def __init__(self, sizes: Mapping[str, int | None]) -> None:
        self._sizes = sizes
        self._known: dict[str, float] = {}
        self._seconds = 0.0  # of all that are known
        self._sizeless = sum(size is None for size in sizes.values())  # unknown, and without bytes to guess from
        self._unknown: Counter[str] = Counter()  # bytes by suffix
        self._measured: Counter[str] = Counter()  # bytes and seconds of those that are known, likewise
        self._lasting: dict[str, float] = {}
        for path, size in sizes.items():
            self._unknown[_suffix(path)] += size or 0
        self._lock = threading.Lock()
        self._closed = False
        # Of very many, some from everywhere.
        step = max(1, len(sizes) // LOOKED_AT)
        self._thread = threading.Thread(
            target=self._look, args=(list(sizes)[::step],), name="fun-asr-lengths", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Look no further."""
        self._closed = True
        self._thread.join()

    def learn(self, path: str, seconds: float) -> None:
        """Take up a recording's length, which is better known than by its header; 0 where it is left out."""
        with self._lock:
            self._learn(path, seconds)

    def _learn(self, path: str, seconds: float) -> None:
        size, suffix = self._sizes[path], _suffix(path)
        before = self._known.get(path)
        self._known[path] = seconds
        self._seconds += seconds - (before or 0.0)
        if before is None:
            self._sizeless -= size is None
            self._unknown[suffix] -= size or 0
            if size and seconds:
                self._measured[suffix] += size
                self._lasting[suffix] = self._lasting.get(suffix, 0.0) + seconds

    @property
    def total(self) -> float | None:
        """Seconds of audio in all recordings; None where nothing is known of some of them."""
        with self._lock:
            unknown = +self._unknown
            if self._sizeless or (unknown and not self._measured):
                return None
            total = self._seconds
            for suffix, size in unknown.items():
                measured, lasting = self._measured[suffix], self._lasting.get(suffix, 0.0)
                if not measured:
                    measured, lasting = self._measured.total(), sum(self._lasting.values())
                total += size * lasting / measured
            return total

    def _look(self, paths: list[str]) -> None:
        from fun_asr.audio.decode import probe

        for path in paths:
            if self._closed:
                return
            seconds = probe(path)
            with self._lock:
                if seconds is not None and path not in self._known:
                    self._learn(path, seconds)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
