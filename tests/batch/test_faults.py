"""Every operation on a file of a batch fails, is the last before a kill, or the last before a power failure."""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bin" / "lib"))
from faults import FAULTS, Fault
from faulty_batches import SCENARIOS, Scenario, check_faults, count_operations, output_files, run_batch

from fun_asr.batch.journal import JOURNAL_FILE, Entry, Journal
from fun_asr.files import write_atomically

BY_NAME = {fault.name: fault for fault in FAULTS}
BRIEFLY = ("disk full in a write", "power: both lost, journal kept")
"""Of all faults, for all but the first of the batches; bin/check-faults has the others."""


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are made."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_batch_goes_on_from_any_fault(work: Path, fault: Fault) -> None:
    runs, problems = check_faults(SCENARIOS[0], work, [fault])
    assert problems == []
    assert runs > 40


@pytest.mark.parametrize("scenario", SCENARIOS[2:], ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("name", BRIEFLY)
def test_a_batch_begun_before_goes_on_from_any_fault(work: Path, scenario: Scenario, name: str) -> None:
    assert check_faults(scenario, work, [BY_NAME[name]])[1] == []


def test_outputs_are_on_the_disk_before_they_are_done(tmp_path: Path) -> None:
    """What the enumeration rests on: it would find nothing in a run whose files it does not see."""
    log = count_operations(SCENARIOS[0], tmp_path)
    last_moved = max(i for i, operation in enumerate(log) if operation.startswith("replace"))
    assert log[last_moved - 1].startswith("fsync below/.fun-asr-")
    assert log[last_moved + 1 :][:2] == ["open folder below", "fsync below"]
    assert log[-1] == f"write {JOURNAL_FILE}"
    assert log.index(f"fsync {JOURNAL_FILE}") < min(i for i, line in enumerate(log) if line.startswith("replace"))


def test_the_checks_notice_an_output_that_is_not_synced(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(path: Path, content: bytes, temporary_name: str | None = None, *, sync: bool) -> None:
        write_atomically(path, content, temporary_name)

    monkeypatch.setattr("fun_asr.batch.runner.write_atomically", careless)
    problems = check_faults(SCENARIOS[0], work, [BY_NAME["power: content lost, journal kept"]])[1]
    assert any("is neither as before nor whole" in problem for problem in problems)


@pytest.fixture
def finished(work: Path) -> tuple[Path, Path]:
    folder, output = Scenario("one bad", ("zero", "bad", "two")).prepare(work)
    run_batch(folder, output)
    return folder, output


def recorded(path: Path) -> dict[str, Entry]:
    with Journal(path) as journal:
        return journal.entries


def falsely_done(path: Path, truth: dict[str, Entry]) -> list[str]:
    """What a damaged journal says that the whole one does not."""
    return [
        name
        for name, entry in recorded(path).items()
        if name not in truth
        or (entry.key, entry.name) != (truth[name].key, truth[name].name)
        or not entry.outputs.items() <= truth[name].outputs.items()
    ]


def test_a_journal_cut_anywhere_says_nothing_false(finished: tuple[Path, Path]) -> None:
    folder, output = finished
    journal, whole = output / JOURNAL_FILE, output_files(output)
    content, truth = journal.read_bytes(), recorded(journal)
    begun = content.index(b"\n")
    for cut in range(len(content)):
        journal.write_bytes(content[:cut])
        assert falsely_done(journal, truth) == []
        if cut > begun and cut % 7 == 0:
            run_batch(folder, output)
            assert output_files(output) == whole
    # With every line lost, the outputs are anyone's, and are left alone.
    journal.write_bytes(b"")
    summary, _ = run_batch(folder, output)
    assert output_files(output) == whole
    assert "exists, and no batch wrote it" in str(summary.failures[0].error)


def test_a_flipped_bit_in_the_journal_says_nothing_false(finished: tuple[Path, Path]) -> None:
    folder, output = finished
    journal, whole = output / JOURNAL_FILE, output_files(output)
    content, truth = journal.read_bytes(), recorded(journal)
    rng = random.Random(0)
    for place in range(len(content)):
        bits = range(8) if place % 16 == 0 else (rng.randrange(8),)
        for bit in bits:
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            journal.write_bytes(damaged)
            assert falsely_done(journal, truth) == [], (place, bit)
        if place > content.index(b"\n") and place % 11 == 0:
            run_batch(folder, output)
            assert output_files(output) == whole


def test_a_lost_block_of_the_journal_says_nothing_false(finished: tuple[Path, Path]) -> None:
    _, output = finished
    journal = output / JOURNAL_FILE
    content, truth = journal.read_bytes(), recorded(journal)
    for place in range(0, len(content), 5):
        for lost in (b"\0" * 64, b"", content[:64]):
            journal.write_bytes(content[:place] + lost + content[place + 64 :])
            assert falsely_done(journal, truth) == []


def test_a_journal_of_an_older_version_is_read(finished: tuple[Path, Path]) -> None:
    folder, output = finished
    journal = output / JOURNAL_FILE
    truth = recorded(journal)
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert all(len(line.pop("crc32")) == 8 for line in lines)
    journal.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert recorded(journal) == truth
    assert run_batch(folder, output)[1] == ["1.wav"]
