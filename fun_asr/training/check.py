"""Manifests looked through before a run: what cannot be trained on is left out and said, or ends the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import soundfile

from fun_asr.errors import ManifestError
from fun_asr.training.data import Utterance
from fun_asr.training.processes import Processes
from fun_asr.training.trainees.protocol import Verdict

__all__ = ["Checked", "check_manifest"]

MISSING_SECONDS = 0.5
"""A recording may end so much before its manifest says."""
READERS = 16  # files that are opened at once
_SHOWN_LETTERS = 30


@dataclass(frozen=True)
class Checked:
    """A manifest that was looked through."""

    manifest: Path
    kept: list[Utterance]
    """With their texts as they are trained on."""
    left_out: list[tuple[Utterance, str]]
    """With the reason of each."""
    notes: dict[str, int]
    """What was changed, and of how many utterances."""

    def table(self) -> str:
        """What is trained on, what is left out and why, a line each."""
        total = len(self.kept) + len(self.left_out)
        hours = sum(utterance.duration for utterance in self.kept) / 3600
        rows = [f"{self.manifest}: {len(self.kept)} of {total} utterances, {hours:.2f} h"]
        rows += [f"  left out {count:>7}  {reason}" for reason, count in self.reasons()]
        rows += [f"  changed  {count:>7}  {note}" for note, count in self.notes.items()]
        return "\n".join(rows)

    def reasons(self) -> list[tuple[str, int]]:
        """Why utterances are left out, the most frequent first, with the first place of each, and how many."""
        found: dict[str, list[tuple[Utterance, str]]] = {}
        for utterance, problem in self.left_out:
            reason, _, detail = problem.partition(" (")
            found.setdefault(reason, []).append((utterance, detail.removesuffix(")")))
        named = []
        for reason, rows in sorted(found.items(), key=lambda item: -len(item[1])):
            letters = "".join(sorted({letter for _, detail in rows for letter in detail}))
            shown = f" ({letters[:_SHOWN_LETTERS]})" if letters else ""
            first = rows[0][0]
            named.append((f"{reason}{shown}, first {first.audio_filepath} ({first.place})", len(rows)))
        return named

    def refuse_most(self, most: float) -> None:
        """End the run where nothing is left, or more than the part `most` is left out.

        Raises:
            ManifestError: naming the reasons.
        """
        total = len(self.kept) + len(self.left_out)
        why = "; ".join(f"{count} {reason}" for reason, count in self.reasons())
        if not self.kept:
            raise ManifestError(f"{self.manifest}: none of {total} utterances can be trained on: {why}")
        if len(self.left_out) > most * total:
            raise ManifestError(
                f"{self.manifest}: {len(self.left_out)} of {total} utterances cannot be trained on, more than "
                f"{100 * most:g} % (most_left_out): {why}"
            )


def check_manifest(
    manifest: Path,
    utterances: Sequence[Utterance],
    judge: Callable[[Utterance], Verdict],
    longest_seconds: float,
    processes: Processes | None = None,
) -> Checked:
    """Look at every utterance's sound and text; sound is not decoded, only what its file says of its length is read.

    Arguments:
        manifest: where they are from.
        utterances: of it.
        judge: of texts and languages.
        longest_seconds: longer ones are left out.
        processes: share the files; None for this one alone.
    """
    processes = processes or Processes()
    mine = range(processes.rank, len(utterances), processes.count)
    lengths = _Lengths()
    with ThreadPoolExecutor(READERS) as readers:
        problems = readers.map(lambda place: _sound_problem(utterances[place], longest_seconds, lengths), mine)
        found = dict(processes.gathered(list(zip(mine, problems, strict=True))))
    kept: list[Utterance] = []
    left_out: list[tuple[Utterance, str]] = []
    notes: dict[str, int] = {}
    for place, utterance in enumerate(utterances):
        problem = found[place]
        verdict = judge(utterance)
        if problem or verdict.problem:
            left_out.append((utterance, problem or verdict.problem))
            continue
        kept.append(verdict.utterance)
        if verdict.note:
            notes[verdict.note] = notes.get(verdict.note, 0) + 1
    return Checked(manifest, kept, left_out, notes)


class _Lengths:
    """How long recordings are, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[Path, float | str] = {}

    def of(self, path: Path) -> float | str:
        """Seconds, or what is wrong; infinity where the file does not say."""
        if path not in self._known:
            self._known[path] = _seconds(path)
        return self._known[path]


def _seconds(path: Path) -> float | str:
    try:
        if not path.exists():
            return "no such file"
        if not path.is_file():  # a pipe would be waited for, a device never ends
            return "not a file"
        if path.stat().st_size == 0:
            return "an empty file"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        info = soundfile.info(path)
        return float(info.frames / info.samplerate)
    except (RuntimeError, OSError, ZeroDivisionError):
        pass
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                return "no sound in the file"
            return container.duration / 1e6 if container.duration else math.inf
    except (av.FFmpegError, OSError, ValueError):
        return "not readable as audio"


def _sound_problem(utterance: Utterance, longest_seconds: float, lengths: _Lengths) -> str:
    """Why an utterance's sound cannot be trained on; empty where it can."""
    if not 0 < utterance.duration < math.inf or not 0 <= utterance.offset < math.inf:
        return "no length: duration must be positive, and offset not negative"
    if utterance.duration > longest_seconds:
        return f"over {longest_seconds:g} s: cut it at a pause"
    if utterance.teaching is not None and not utterance.teaching.path.is_file():
        return "the file of its teaching is missing"
    for part in utterance.parts or (utterance,):
        seconds = lengths.of(part.audio_filepath)
        if isinstance(seconds, str):
            return seconds
        if part.offset + part.duration > seconds + MISSING_SECONDS:
            return "the recording ends before the utterance does"
    return ""
