"""The journal reads back what it wrote, whatever a kill or a full disk left of it."""

import os
import resource
from pathlib import Path

import pytest

from fun_asr.batch.journal import Journal, Key
from fun_asr.errors import FunASRError

A = Key("/in/a.wav", 10, 1, "c")
ODD = Key(os.fsdecode(b"/in/\xe9\n.wav"), 20, 2, "c")


def fill(path: Path) -> None:
    with Journal(path) as journal:
        journal.begin([(A, "a"), (ODD, "odd")])
        journal.done(A, "a", {"txt": 5}, 1.5)
        journal.failed(ODD, "odd", "is no audio")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        assert journal.shards == [[A, ODD]]
        assert (journal.entries[A.path].key, journal.entries[A.path].outputs) == (A, {"txt": 5})
        assert journal.entries[ODD.path].failed


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_cut_short_costs_only_itself(tmp_path: Path, cut: int) -> None:
    fill(tmp_path / "j")
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[:-cut])
    with Journal(tmp_path / "j") as journal:
        assert journal.entries[A.path].outputs == {"txt": 5}
        # The last line lacks nothing but its end when a single byte is gone.
        assert journal.entries[ODD.path].failed == (cut == 1)
        journal.failed(ODD, "odd", "again")
    with Journal(tmp_path / "j") as journal:
        assert journal.entries[ODD.path].failed


def test_lines_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with (tmp_path / "j").open("ab") as file:
        file.write(b'\0\0\0\n[]\n{"event": "done"}\n{"event": "done", "file": [1], "outputs": {}}\n\xff\n')
    with Journal(tmp_path / "j") as journal:
        assert journal.entries.keys() == {A.path, ODD.path}
        assert journal.shards == [[A, ODD]]


def test_a_changed_recording_starts_anew(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        changed = A._replace(mtime_ns=9)
        journal.begin([(changed, "a")])
        assert not journal.entries[A.path].ended


def test_a_restart_forgets_all_but_the_names(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        journal.restart()
    with Journal(tmp_path / "j") as journal:
        assert journal.shards == []
        assert [entry.name for entry in journal.entries.values()] == ["a", "odd"]
        assert not any(entry.ended for entry in journal.entries.values())


def test_a_second_run_on_the_folder_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(FunASRError, match="another batch is writing into this folder"):
        Journal(tmp_path / "j")
    with Journal(tmp_path / "j"):
        pass


def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    fill(tmp_path / "j")
    before = (tmp_path / "j").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "j") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        try:
            with pytest.raises(OSError):
                journal.failed(A, "a", "a cause of many words")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / "j").read_bytes() == before
        journal.failed(A, "a", "short")
    with Journal(tmp_path / "j") as journal:
        assert journal.entries[A.path].failed
