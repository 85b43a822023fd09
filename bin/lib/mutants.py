"""Damaged files: what readers must refuse with a word, in little time and memory."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from faults import in_child

from fun_asr.errors import FunASRError

__all__ = ["Reader", "Verdict", "mutate", "try_mutants"]

SECONDS = 10.0  # for one input, on a busy machine
MEMORY = 1 << 30  # bytes above what the process has when it begins
ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
ODD_TEXTS = (
    b"", b"\0", b"\n", b"\r", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"{", b"[" * 2000, b"{}" * 3, b"null", b"NaN",
    b"1e999", b"-1", b"9" * 400, b"\\ud800", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"()", b"{ / }",
    b"!!python/object:os.system {}", b"&a *a", b"<<: *x", b"../../..", b"%s%n", b"\t", b",", b";;", b"true",
    b"1" + b"0" * 18,
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """What reads a file, and whole files to damage."""

    name: str
    file: str
    """What the file is called."""
    wholes: Sequence[bytes]
    read: Callable[[Path], object]


@dataclass
class Verdict:
    """What came of many inputs."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    """The longest for one input."""
    problems: list[str] = field(default_factory=list)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to four changes: bits, numbers, texts, pieces left out, doubled or moved, the end cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        # Headers decide most.
        if rng.random() < 0.4:
            at = rng.randrange(min(len(data), 96) + 1)
        length = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(data) - at)
        match rng.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.randrange(256)
            case 2:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(ODD_NUMBERS) % (1 << 8 * width)
                data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
            case 3:
                data[at:at] = rng.choice(ODD_TEXTS)
            case 4:
                data[at : at + length] = b""
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                del data[at:]
            case _:
                data[at : at + length] = rng.randbytes(length)
    return bytes(data)


def try_mutants(reader: Reader, count: int, folder: Path, seed: int = 0) -> Verdict:
    """Read many damaged files, in processes of their own with limits on time and memory.

    A problem names the seed of its input: `mutate` makes it again.
    """
    verdict = Verdict()
    number = 0
    while number < count:
        report = folder / "report.txt"
        report.write_text("")
        first = number

        def work(first: int = first, report: Path = report) -> None:
            _limit_memory()
            with report.open("a", encoding="utf-8") as lines:
                for place in range(first, count):
                    lines.write(f"{place}\t{_try(reader, folder, seed + place)}\n")
                    lines.flush()

        status = in_child(work)
        lines = report.read_text(encoding="utf-8").splitlines()
        for line in lines:
            _, seconds, ending = line.split("\t", 2)
            verdict.seconds = max(verdict.seconds, float(seconds))
            verdict.read += ending == "read"
            verdict.refused += ending == "refused"
            if ending not in ("read", "refused"):
                verdict.problems.append(f"{reader.name}, seed {seed + int(line.split()[0])}: {ending}")
        number = first + len(lines)
        if status:
            verdict.problems.append(f"{reader.name}, seed {seed + number}: the process ended with {status}")
            number += 1
    return verdict


def input_of(reader: Reader, seed: int) -> bytes:
    """The damaged file of a seed."""
    rng = random.Random(seed)
    return mutate(rng.choice(reader.wholes), rng)


def _try(reader: Reader, folder: Path, seed: int) -> str:
    path = folder / reader.file
    path.write_bytes(input_of(reader, seed))
    start = time.perf_counter()
    ending = "read"
    try:
        with _time_limit():
            reader.read(path)
    except FunASRError as error:
        ending = "refused" if "\n" not in str(error) else f"says more than a line: {str(error)!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ending = f"{type(error).__name__}: {str(error)[:100]!r} in {Path(place.filename).name}:{place.lineno}"
    return f"{time.perf_counter() - start:.3f}\t{ending}"


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
