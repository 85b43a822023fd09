"""Which recordings are transcribed together, such that a run taken up again gives the bytes of one never stopped.

A batch of segments mixes recordings, and the arithmetic of a batch depends a little on its shape: the bundled model
gave 60 clips, with and without the first 13 of them. Of the other 47, one had another word and 20 more another digit in
a score or probability in bfloat16, two and 18 in int8, none in float32 at the four digits that are written. So a
transcript depends on its neighbours. Therefore recordings are transcribed in shards, each a run of
`Transcriber.transcribe` of its own that shares nothing with the others, and each noted in the journal before it begins.
A shard that was cut short is transcribed again as a whole, and of it only the outputs that are missing are written. The
rest of the list is cut from where the last run's cutting stopped, into the shards that that run would have made, given
as many workers.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from fun_asr.audio.excerpt import Excerpt
from fun_asr.batch.journal import Journal, Key
from fun_asr.inputs.info import RecordingInfo

__all__ = ["Shard", "Task", "plan"]

# Enough short recordings that batches of like lengths fill up; fewer where several workers would stand idle.
MOST_FILES = 128
FEWEST_FILES = 16
SHARDS_PER_WORKER = 4
MOST_SECONDS = 1800.0  # of audio that are transcribed again after a kill
# Only the order of magnitude matters, so the files need not be opened.
LOSSLESS_BYTES_PER_SECOND = 32_000
LOSSY_BYTES_PER_SECOND = 4_000
LOSSLESS_SUFFIXES = (".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".snd", ".voc", ".sph")


@dataclass(frozen=True)
class Task:
    """A recording to transcribe."""

    source: str | Excerpt
    """The recording as the user named it, or a part of it."""
    key: Key
    name: str
    """Of its outputs, without extension, below the output folder."""
    language: str | None
    info: RecordingInfo

    @property
    def path(self) -> str:
        """The recording as messages name it."""
        return self.file if self.key.path == os.path.abspath(self.file) else str(self.source)

    @property
    def file(self) -> str:
        """Path of the recording."""
        return os.fspath(self.source)


@dataclass(frozen=True)
class Shard:
    """Recordings in one language that are transcribed together."""

    tasks: tuple[Task, ...]
    wanted: frozenset[int]
    """Places of those whose outputs are missing."""
    noted: bool
    """Whether the journal has it."""


def plan(tasks: Sequence[Task], journal: Journal, complete: Container[Key], workers: int = 1) -> list[Shard]:
    """Cut what is left to do into shards, in the order in which they are to be begun.

    First come the shards that were cut short, then recordings that changed, failed or lost an output since, then those
    that were never begun.

    Arguments:
        tasks: all recordings of the batch.
        journal: what earlier runs did.
        complete: those of which all outputs are in place.
        workers: that are to be kept busy.
    """
    by_key = {task.key: task for task in tasks}
    latest = {key: place for place, shard in enumerate(journal.shards) for key in shard}
    begun_paths = {(key.path, key.config) for key in latest}

    def torn(key: Key) -> bool:
        """Whether a kill or a full disk came between the recording and its end."""
        entry = journal.entries.get(key.path)
        return key not in complete and (entry is None or entry.key != key or not entry.ended)

    shards: list[Shard] = []
    for place, keys in enumerate(journal.shards):
        cut_short = any(latest[key] == place and key in by_key and torn(key) for key in keys)
        if cut_short and all(key in by_key for key in keys):
            again = tuple(by_key[key] for key in keys)
            wanted = frozenset(i for i, key in enumerate(keys) if latest[key] == place and key not in complete)
            shards.append(Shard(again, wanted, noted=True))
    planned = {shard.tasks[i].key for shard in shards for i in shard.wanted}
    left = [task for task in tasks if task.key not in complete and task.key not in planned]
    again_alone = [task for task in left if (task.key.path, task.key.config) in begun_paths]
    never_begun = [task for task in left if (task.key.path, task.key.config) not in begun_paths]
    # By all tasks, since the number of those that are left changes from run to run.
    even = len(tasks) if workers == 1 else -(-len(tasks) // (SHARDS_PER_WORKER * workers))
    most_files = min(max(even, FEWEST_FILES), MOST_FILES)
    # Apart from each other, so that the one kind does not move the other's limits.
    return shards + [
        Shard(tuple(part), frozenset(range(len(part))), noted=False)
        for kind in (again_alone, never_begun)
        for part in _cut(kind, most_files)
    ]


def _cut(tasks: Iterable[Task], most_files: int) -> Iterator[list[Task]]:
    by_language: dict[str | None, list[Task]] = {}
    for task in tasks:
        by_language.setdefault(task.language, []).append(task)
    for group in by_language.values():
        part: list[Task] = []
        seconds = 0.0
        for task in group:
            # Not between parts of one recording, which is decoded once for all of its parts.
            full = len(part) >= most_files or seconds >= MOST_SECONDS
            if full and task.file != part[-1].file:
                yield part
                part, seconds = [], 0.0
            part.append(task)
            seconds += _estimated_seconds(task)
        if part:
            yield part


def _estimated_seconds(task: Task) -> float:
    if isinstance(task.source, Excerpt) and task.source.duration is not None:
        return task.source.duration
    lossless = task.file.lower().endswith(LOSSLESS_SUFFIXES)
    return task.key.size / (LOSSLESS_BYTES_PER_SECOND if lossless else LOSSY_BYTES_PER_SECOND)
