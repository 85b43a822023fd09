"""LocalAgreement-2 over faster-whisper, as whisper_streaming does it (Macháček et al. 2023), on a virtual clock.

Usage: live_agreement.py MODEL_DIR SESSION.npy... (mono float32 at 16 kHz), with the Python of faster-whisper; prints
for each session a JSON object with its `events`, each `[clock, words, rest]`, where words `[text, start, end]` are
confirmed for good and rest is the text after them, and the `compute` seconds. A step is made each second of sound; the
buffer is cut at the end of a confirmed segment once it holds 15 s, and the last 200 characters before it are the
prompt.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 16_000
CHUNK = RATE // 50
STEP = RATE
LONGEST = 15.0  # seconds
PROMPT = 200  # characters
Word = tuple[str, float, float]


class LocalAgreement:
    """One stream.

    Arguments:
        model: a `faster_whisper.WhisperModel`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._sound = np.zeros(0, np.float32)
        self._start = 0.0  # of the buffer, seconds
        self._confirmed: list[Word] = []
        self._before: list[Word] = []

    def step(self, samples: npt.NDArray[np.float32]) -> tuple[list[Word], str]:
        """Take more sound; returns the words that are confirmed by it, and the text after them."""
        self._sound = np.concatenate([self._sound, samples])
        past = "".join(text for text, _, end in self._confirmed if end <= self._start)
        segments, _ = self._model.transcribe(
            self._sound,
            language="en",
            beam_size=5,
            word_timestamps=True,
            condition_on_previous_text=True,
            initial_prompt=past[-PROMPT:],
        )
        found = list(segments)
        words = [
            (word.word, word.start + self._start, word.end + self._start)
            for segment in found
            if segment.no_speech_prob <= 0.9
            for word in segment.words
        ]
        last = self._confirmed[-1][2] if self._confirmed else 0.0
        fresh = self._without_overlap([word for word in words if word[1] > last - 0.1], last)
        agreed = 0
        while agreed < min(len(fresh), len(self._before)) and fresh[agreed][0] == self._before[agreed][0]:
            agreed += 1
        new, self._before = fresh[:agreed], fresh[agreed:]
        self._confirmed += new
        self._trim([segment.end + self._start for segment in found])
        return new, "".join(text for text, _, _ in self._before)

    def finish(self) -> list[Word]:
        """What was not confirmed."""
        return self._before

    def _without_overlap(self, fresh: list[Word], last: float) -> list[Word]:
        """Without the first words that say the last confirmed ones again."""
        if fresh and abs(fresh[0][1] - last) < 1:
            for count in range(1, min(len(fresh), len(self._confirmed), 5) + 1):
                if [word[0] for word in self._confirmed[-count:]] == [word[0] for word in fresh[:count]]:
                    return fresh[count:]
        return fresh

    def _trim(self, ends: list[float]) -> None:
        if len(self._sound) <= LONGEST * RATE or not self._confirmed:
            return
        # The last segment still grows.
        safe = [end for end in ends[:-1] if end <= self._confirmed[-1][2]]
        if safe:
            self._sound = self._sound[round((safe[-1] - self._start) * RATE) :]
            self._start = safe[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("sessions", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    now = time.perf_counter if args.clock == "wall" else time.process_time
    model = WhisperModel(args.model, device="cpu", compute_type="int8", cpu_threads=args.threads)
    list(model.transcribe(np.zeros(RATE, np.float32), language="en")[0])
    for path in args.sessions:
        samples = np.load(path)
        stream = LocalAgreement(model)
        events: list[tuple[float, list[Word], str]] = []
        clock = compute = 0.0
        place = 0
        while place < len(samples):
            # A step is due when a second has come since the last; what came while it computed is taken with it.
            arrived = int(clock * RATE) // CHUNK * CHUNK
            end = min(len(samples), max(place + STEP, arrived))
            clock = max(clock, end / RATE)
            began = now()
            new, rest = stream.step(samples[place:end])
            took = now() - began
            clock += took
            compute += took
            events.append((clock, new, rest))
            place = end
        events.append((clock, stream.finish(), ""))
        print(json.dumps({"events": events, "compute": compute}), flush=True)


if __name__ == "__main__":
    main()
