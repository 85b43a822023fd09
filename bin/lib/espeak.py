"""Speech of espeak-ng with the times of its words, through its C library."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

_RETRIEVAL, _PHONEME_EVENTS, _UTF8 = 1, 1, 1
_WORD, _END, _PHONEME = 1, 5, 7
_PAUSES = ("_", "")  # phonemes that begin so are silence; an empty one ends a clause


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class SpokenWord:
    """A word and where it lies, in seconds."""

    text: str
    start: float
    end: float


class Espeak:
    """The synthesizer; one a process.

    Raises:
        OSError: where libespeak-ng is not installed.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(_RETRIEVAL, 0, None, _PHONEME_EVENTS)
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._waves: list[npt.NDArray[np.int16]] = []
        self._events: list[tuple[int, int, int, int, bytes]] = []

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count:
            self._waves.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type:
            event = events[i]
            self._events.append((event.type, event.text_position, event.length, event.sample, event.name))
            i += 1
        return 0

    def speak(
        self, text: str, voice: str, words_per_minute: int, pitch: int
    ) -> tuple[npt.NDArray[np.float32], Sequence[SpokenWord]]:
        """Samples at 16 kHz and the words with their times.

        Arguments:
            text: words of ASCII letters.
            voice: a voice's name, such as "en-us" or "en-gb+f2".
            words_per_minute: speed, 80 to 450.
            pitch: 0 to 99.
        """
        self._waves, self._events = [], []
        self._library.espeak_SetVoiceByName(voice.encode())
        self._library.espeak_SetParameter(1, words_per_minute, 0)
        self._library.espeak_SetParameter(3, pitch, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        wave = np.concatenate(self._waves)
        words: list[SpokenWord] = []
        start, label = 0, ""
        for kind, position, length, sample, name in [*self._events, (_END, 0, 0, len(wave), b"")]:
            silent = (kind == _PHONEME and name.decode(errors="replace").startswith(_PAUSES[0])) or name == b""
            if label and (kind in (_WORD, _END) or (kind == _PHONEME and silent)):
                words.append(SpokenWord(label, start / self._rate, sample / self._rate))
                label = ""
            if kind == _WORD:
                start, label = sample, text[position - 1 : position - 1 + length]
        samples = soxr.resample(wave.astype(np.float32) / 32768, self._rate, 16_000)
        return samples, words
