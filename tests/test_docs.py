"""README.md and docs/: links lead somewhere, and the commands, options, files and Python names shown exist."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from fun_asr.cli import main
from fun_asr.transcriber import TranscriptionKeywords

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "kernels" / "README.md", *DOCS]
MOST_README_BYTES = 8192

LANGUAGES = {"console", "json", "python", "sh", "text", "yaml"}
"""Of code blocks: in `sh` every line is a command, in `console` each that starts with `$ `."""
OBJECTS = {
    "transcriber": "fun_asr.Transcriber",
    "transcript": "fun_asr.Transcript",
    "segment": "fun_asr.Segment",
    "word": "fun_asr.Word",
    "punctuator": "fun_asr.punctuation.Punctuator",
}
"""What these variables are in the pages' Python."""

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"#{1,6} +(.+?) *$")
_HEADING_NAMED = re.compile(r'(README|docs/[\w-]+\.md), "([^"]+)"')
_FILE = re.compile(r"(?<![\w./-])(?:\.ci|bin|configs|docs|fun_asr|kernels|tests)/[\w./*-]*\w")
_NAME = re.compile(r"fun_asr(\.\w+)+")
_EXTRAS = re.compile(r"\.\[([\w,]+)\]")


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    line: int
    """Of its first line of code."""
    language: str
    code: str

    def commands(self) -> Iterator[tuple[int, str]]:
        """Command lines with their numbers, continued ones joined."""
        begun, number = "", self.line
        for offset, text in enumerate(self.code.splitlines()):
            if not begun:
                number = self.line + offset
                if self.language == "console" and not text.startswith("$ "):
                    continue
                text = text.removeprefix("$ ")
            begun += text.strip().removesuffix("\\")
            if not text.endswith("\\") and begun:
                yield number, begun
                begun = ""


def split_page(text: str) -> tuple[list[str], list[Block]]:
    """The lines of a page, empty where they are code, and its code blocks."""
    prose: list[str] = []
    blocks: list[Block] = []
    code: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        fence = re.match(r" *```(.*)", line)
        if fence and code is None:
            start, language, code = number + 1, fence[1].strip(), []
        elif fence and code is not None:
            blocks.append(Block(start, language, "\n".join(code)))
            code = None
        elif code is not None:
            code.append(line)
        prose.append("" if fence or code is not None else line)
    if code is not None:
        blocks.append(Block(start, "a block without an end", "\n".join(code)))
    return prose, blocks


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for line in split_page(text)[0]:
        if heading := _HEADING.match(line):
            words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", heading[1]).lower())
            found.append(words.replace(" ", "-"))
    return {f"{slug}-{found[:i].count(slug)}" if slug in found[:i] else slug for i, slug in enumerate(found)}


def problems_of(page: Path) -> list[str]:
    """What is wrong on a page, each with its line."""
    text = page.read_text(encoding="utf-8")
    prose, blocks = split_page(text)
    found: list[tuple[int, str]] = []
    for number, line in enumerate(prose, start=1):
        if re.match(r"(?: {4,}|\t)(?:\$ |fun-asr |bin/)", line):
            found.append((number, "an indented command, which is not checked: put it between ```"))
        for target in _LINK.findall(_CODE.sub("", line)):
            found += [(number, problem) for problem in link_problems(page, target)]
        for span in _CODE.findall(line):
            found += [(number, problem) for problem in span_problems(span)]
    for block in blocks:
        if block.language not in LANGUAGES:
            found.append((block.line - 1, f"a code block in {block.language!r}: say one of {sorted(LANGUAGES)}"))
        if block.language == "python":
            found += [(block.line, problem) for problem in python_problems(block.code)]
        if block.language in ("sh", "console"):
            for number, command in block.commands():
                found += [(number, problem) for problem in line_problems(command)]
    return [f"{page.name}:{number}: {problem}" for number, problem in sorted(found)]


def link_problems(page: Path, target: str) -> Iterator[str]:
    if re.match(r"\w+:", target):
        return
    path, _, anchor = target.partition("#")
    place = page.parent / path if path else page
    if not place.exists():
        yield f"no file {path}"
    elif anchor and anchor not in anchors(place.read_text(encoding="utf-8")):
        yield f"no heading #{anchor} in {place.name}"


def span_problems(span: str) -> Iterator[str]:
    """Of code in running text: files, options, dotted names, and commands without what they need to run."""
    if span.startswith(("fun-asr ", "bin/")):
        yield from line_problems(span, whole=False)
        return
    yield from file_problems(span)
    if _NAME.fullmatch(span) and not exists(span):
        yield f"no {span}"
    if option := re.match(r"--[\w-]+", span):
        name = plain(option[0])
        if not any(name in options for options in all_options()):
            yield f"no command has the option {option[0]}"


def file_problems(text: str) -> Iterator[str]:
    for path in _FILE.findall(text):
        if not any(ROOT.glob(path)):
            yield f"no file {path}"


def line_problems(line: str, *, whole: bool = True) -> Iterator[str]:
    """Of a command line, each of its commands apart; without `whole`, arguments may be missing."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            yield from command_problems(words, whole=whole)
            words = []
        else:
            words.append(word)


def command_problems(words: Sequence[str], *, whole: bool) -> Iterator[str]:
    words = [word for i, word in enumerate(words) if not set(word) & set("<>") and (not i or words[i - 1] not in "<>")]
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:1] in (["python"], [".venv/bin/python"]):
        words = words[1:]
    if not words:
        return
    for word in words:
        yield from file_problems(word)
    if words[:2] == ["pip", "install"]:
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        for extra in ",".join(_EXTRAS.findall(" ".join(words))).split(","):
            if extra and extra not in known:
                yield f"no extra {extra}"
    elif words[0] in ("fun-asr", "bin/fun-asr"):
        yield from fun_asr_problems(words[1:], whole=whole)
    elif words[0].startswith("bin/") and ROOT / words[0] in python_scripts():
        yield from script_problems(ROOT / words[0], words[1:])


def fun_asr_problems(words: Sequence[str], *, whole: bool) -> Iterator[str]:
    """Of a command of fun-asr, parsed by click and not run."""
    command: click.Command = main
    context = click.Context(main, info_name="fun-asr", **main.context_settings)
    if words and re.search(r"[/.]", words[0]) and not words[0].startswith("-"):
        words = ["transcribe", *words]  # a recording
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            yield f"no command {words[0]} in {context.command_path}"
            return
        context = click.Context(found, info_name=words[0], parent=context, **found.context_settings)
        command, words = found, words[1:]
    try:
        values, left, _ = command.make_parser(context).parse_args(list(words))
        for parameter in command.get_params(context):
            value = values.get(parameter.name or "")
            given = value if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []
            if isinstance(parameter.type, click.Choice):
                for item in given:
                    parameter.type.convert(item, parameter, context)
            if whole and parameter.required and not given:
                yield f"{context.command_path} needs {parameter.get_error_hint(context)}"
        if left and not isinstance(command, click.Group):
            yield f"{context.command_path} takes no {' '.join(left)}"
    except click.UsageError as error:
        yield f"{context.command_path}: {error.format_message()}"


def script_problems(script: Path, words: Sequence[str]) -> Iterator[str]:
    """Of a script in bin/, by its source: it is neither run nor imported."""
    known = script_words(script) | {"--help"}
    for word in words:
        if word.startswith("--") and plain(word) not in known:
            yield f"{script.name} has no option {word}"
    if "add_parser" in script.read_text(encoding="utf-8") and words and words[0] not in known:
        yield f"{script.name} has no command {words[0]}"


@functools.cache
def script_words(script: Path) -> frozenset[str]:
    """The strings in a script and in what it imports of bin/lib; options without their values."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = {plain(part) for word in words for part in (word.split("/") if word.startswith("--") else [word])}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (ROOT / "bin" / "lib" / f"{node.module}.py").is_file():
            found |= script_words(ROOT / "bin" / "lib" / f"{node.module}.py")
    return frozenset(found)


@functools.cache
def all_options() -> list[frozenset[str]]:
    """The options of every command of fun-asr, and the words of every script."""
    context = click.Context(main, info_name="fun-asr", **main.context_settings)
    commands: list[click.Command] = [main]
    for command in commands:
        if isinstance(command, click.Group):
            names = command.list_commands(context)
            commands += [found for name in names if (found := command.get_command(context, name))]
    options = [
        frozenset(plain(option) for p in found.get_params(context) for option in (*p.opts, *p.secondary_opts))
        for found in commands
    ]
    return [*options, *map(script_words, python_scripts())]


def scripts() -> list[Path]:
    """The commands in bin/ and its folders, without what they share."""
    files = [path for path in (ROOT / "bin").rglob("*") if path.is_file()]
    return sorted(path for path in files if not {"lib", "__pycache__"} & set(path.relative_to(ROOT).parts))


def python_scripts() -> list[Path]:
    return [path for path in scripts() if path.read_bytes().startswith(b"#!/usr/bin/env python")]


def plain(option: str) -> str:
    """An option's name: --batch_size=4 and --batch-size are one."""
    return option.partition("=")[0].replace("_", "-") if option.startswith("--") else option


def keywords_of(function: object) -> set[str]:
    """What a function takes by name, those of `**options: Unpack[...]` among them."""
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    taken = set(parameters)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        taken |= set(TranscriptionKeywords.__annotations__)
    return taken


def python_problems(code: str) -> Iterator[str]:
    """Of a Python block: syntax, names from fun_asr, attributes of what `OBJECTS` names, keyword arguments."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        yield f"Python: {error.msg} in {(error.text or '').strip()!r}"
        return
    imported: dict[str, str] = {}
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    names += imported.values()
    known = {**OBJECTS, **imported, "fun_asr": "fun_asr"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node, known)):
            names.append(name)
        elif isinstance(node, ast.Call) and (name := dotted(node.func, known)) and exists(name):
            taken = keywords_of(resolve(name))
            yield from (f"{name} takes no {key.arg}" for key in node.keywords if key.arg not in taken)
    for name in dict.fromkeys(names):
        owner = name.rpartition(".")[0]
        if name.split(".")[0] == "fun_asr" and not exists(name) and (not owner or exists(owner)):
            yield f"no {name}"


def dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    """The dotted name in fun_asr that an expression stands for."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, known)
        return None if owner is None else f"{owner}.{node.attr}"
    name = known.get(node.id, "") if isinstance(node, ast.Name) else ""
    return name if name.split(".")[0] == "fun_asr" else None


def exists(name: str) -> bool:
    try:
        resolve(name)
    except (AttributeError, ImportError):
        return False
    return True


def resolve(name: str) -> object:
    """What a dotted name is; of a dataclass's field, or of what an attribute holds, only that it is there.

    Raises:
        AttributeError, ImportError: when it is not.
    """
    parts = name.split(".")
    value: object = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        if inspect.isclass(value) and part in getattr(value, "__dataclass_fields__", {}):
            return part
        if isinstance(value, property):
            return value
        with contextlib.suppress(ImportError):
            if inspect.ismodule(value) and not hasattr(value, part):
                importlib.import_module(".".join(parts[: i + 1]))
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_exists(page: Path) -> None:
    assert problems_of(page) == []


@pytest.mark.parametrize("file", [ROOT / "NOTICE", *sorted((ROOT / "configs").rglob("*.yaml"))], ids=lambda f: f.name)
def test_files_and_headings_named_in_other_texts_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert list(file_problems(text)) == []
    for page, heading in _HEADING_NAMED.findall(text):
        place = ROOT / (page if page.endswith(".md") else f"{page}.md")
        assert f"# {heading}\n" in place.read_text(encoding="utf-8"), (page, heading)


@pytest.mark.parametrize("page", ["itn.md", "punctuation.md"])
def test_the_result_beside_an_expression_is_what_it_gives(page: str) -> None:
    names: dict[str, object] = {}
    compared = 0
    for block in split_page((ROOT / "docs" / page).read_text(encoding="utf-8"))[1]:
        for line in block.code.splitlines() if block.language == "python" else ():
            code, _, shown = line.partition("  # ")
            if shown:
                assert str(eval(code, names)) == shown
                compared += 1
            else:
                exec(code, names)
    assert compared >= 2


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= MOST_README_BYTES


def test_the_readme_leads_to_every_page() -> None:
    links = {target.partition("#")[0] for target in _LINK.findall(README.read_text(encoding="utf-8"))}
    assert [page.name for page in DOCS if f"docs/{page.name}" not in links] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_opens_with_what_it_is_for_and_code_to_copy(page: Path) -> None:
    prose, blocks = split_page(page.read_text(encoding="utf-8"))
    second = next(number for number, line in enumerate(prose, start=1) if line.startswith("## "))
    assert re.match(r"# \S", prose[0]) and len(prose[2]) > 40
    assert blocks[0].language in ("console", "python", "sh") and blocks[0].line < second


def test_every_command_script_and_config_is_documented() -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in [README, *DOCS]}
    together = "\n".join(pages.values())
    house = pages[ROOT / "docs" / "development.md"]
    files = [*scripts(), *(ROOT / "configs").rglob("*.yaml")]
    assert [name for name in main.list_commands(click.Context(main)) if f"fun-asr {name}" not in together] == []
    assert [path.name for path in files if f"`{path.relative_to(ROOT)}`" not in house] == []


FAULTS = {
    4: ["missing.md", "#nowhere", "bin/nothing", "--no_such", "fun_asr.nothing"],
    8: ["--beam_width"],
    9: ["needs '-h' / '--hyp'"],
    10: ["sing"],
    11: ["OUTPUT_DIR"],
    12: ["tea"],
    13: ["configs/none.yaml"],
    14: ["--jsonl"],
    16: ["sped"],
    17: ["--limits"],
    18: ["rays"],
    22: ["--model"],
    27: ["quick", "beams", "fun_asr.text.nothing", "fun_asr.Transcriber.nothing", "fun_asr.nowhere"],
    37: ["never closed"],
    40: ["indented"],
    42: ["code block in"],
    46: ["without an end"],
}
"""Of tests/data/bad_page.md: what is said of each line, a part of each message."""


def test_the_checks_find_every_fault_of_a_bad_page() -> None:
    found = problems_of(ROOT / "tests" / "data" / "bad_page.md")
    assert len(found) == sum(map(len, FAULTS.values()))
    for number, parts in FAULTS.items():
        said = "\n".join(problem for problem in found if problem.startswith(f"bad_page.md:{number}: "))
        assert [part for part in parts if part not in said] == []


def test_anchors_are_those_of_github() -> None:
    page = "# Fun-ASR: it's `here`\n## Use\n```sh\n# no heading\n```\n## Use\n### Words, times & more\n"
    assert anchors(page) == {"fun-asr-its-here", "use", "use-1", "words-times--more"}
