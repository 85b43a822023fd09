"""Imports point down only: every module's imports against the list of layers."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fun_asr"

# From the ground up. A module may import those of its own part and of the parts in rows above it in this list, so that
# the parts of one row do not know each other.
LAYERS = (
    ("errors", "bundled", "callbacks", "memory", "threads", "files", "kernels"),
    ("transcript", "configuration"),
    ("text", "audio", "layers"),
    ("options", "weights"),
    ("punctuation", "decoding"),
    ("drafts",),
    ("models",),
    ("clips", "pool", "inputs", "scoring", "hub"),
    ("writers",),
    ("recording", "probing", "progress"),
    ("recognition", "streaming"),
    ("transcriber",),
    ("convert", "batch", "server"),
    ("training",),
    ("cli",),
    ("__main__",),
)
# `__init__` is the whole public interface and imports on first use; `__version__` in it is everybody's.
OPEN = "__init__"


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "assets" not in path.relative_to(package).parts)


def part_of(dotted: str) -> str:
    """The part of the package, the first name below it, that a module belongs to."""
    names = dotted.split(".")
    return names[1] if len(names) > 1 else OPEN


def imported_parts(path: Path, package: Path) -> set[str]:
    """The parts that a module imports, at its top and inside its functions; those for types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {part_of(name.name) for name in node.names if name.name.split(".")[0] == "fun_asr"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fun_asr":
            assert node.level == 0
            if node.module == "fun_asr":
                found |= {
                    name.name
                    for name in node.names
                    if (package / name.name).is_dir() or (package / f"{name.name}.py").is_file()
                }
            else:
                found.add(part_of(node.module))
    return found


def broken(package: Path) -> list[str]:
    """The imports that point upwards or sideways."""
    level = {part: row for row, parts in enumerate(LAYERS) for part in parts}
    problems = []
    for path in modules(package):
        part = path.relative_to(package).with_suffix("").parts[0]
        if part == OPEN:
            continue
        if part not in level:
            problems.append(f"{part} is in no layer")
            continue
        for other in sorted(imported_parts(path, package) - {part, OPEN}):
            if other not in level:
                problems.append(f"{path.relative_to(package)} imports {other}, which is in no layer")
            elif level[other] >= level[part]:
                problems.append(f"{path.relative_to(package)} imports {other}")
    return problems


def test_imports_point_down() -> None:
    assert broken(PACKAGE) == []


@pytest.mark.parametrize(
    ("place", "line", "problem"),
    [
        ("text/tokenizer.py", "from fun_asr.audio.decode import decode", "text/tokenizer.py imports audio"),
        ("layers/moe.py", "import fun_asr.decoding.guard", "layers/moe.py imports decoding"),
        (
            "weights/load.py",
            "def f():\n    from fun_asr.models.fun_asr.load import load_network",
            "weights/load.py imports models",
        ),
        ("decoding/ctc.py", "from fun_asr import transcriber", "decoding/ctc.py imports transcriber"),
        ("upstairs/attic.py", "", "upstairs is in no layer"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(tmp_path: Path, place: str, line: str, problem: str) -> None:
    (tmp_path / "transcriber.py").write_text("")
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(line + "\n")
    assert broken(tmp_path) == [problem]


def test_imports_downwards_within_a_part_and_for_types_are_fine(tmp_path: Path) -> None:
    (tmp_path / "decoding").mkdir()
    (tmp_path / "decoding" / "words.py").write_text(
        "from fun_asr import __version__\n"
        "from fun_asr.decoding import alignment\n"
        "from fun_asr.text.spoken import spoken_form\n"
        "if TYPE_CHECKING:\n    from fun_asr.transcriber import Transcriber\n"
    )
    assert broken(tmp_path) == []
