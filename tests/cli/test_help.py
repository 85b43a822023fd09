"""--help in groups with examples, and what the shell completes."""

import os
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from fun_asr.cli import main
from fun_asr.cli.help import GroupedCommand

GROUPED = ["batch", "evaluate", "listen", "serve", "transcribe"]
BASH = "from fun_asr.cli import main; main(prog_name='fun-asr')"


def command_of(name: str) -> tuple[GroupedCommand, click.Context]:
    context = click.Context(main, info_name="fun-asr", **main.context_settings)
    command = main.get_command(context, name)
    assert isinstance(command, GroupedCommand)
    return command, click.Context(command, info_name=name, parent=context)


@pytest.mark.parametrize("name", GROUPED)
def test_every_option_is_shown_once_under_a_heading_that_says_something(name: str) -> None:
    command, context = command_of(name)
    shown = CliRunner().invoke(main, [name, "--help"]).stdout
    assert "\nOptions:\n" not in shown
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert len(re.findall(rf"^  (?:-\w, )?{parameter.opts[-1]}\b", shown, re.MULTILINE)) == 1, parameter.opts
    headings = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert headings[0] == "Model" and headings[-1] == "Examples"
    defaults = re.findall(r"\[default:\s+([^\];]+)", shown)
    assert "r" not in defaults and "fun-asr" not in defaults  # parts of an option's names are no value


@pytest.mark.parametrize("name", GROUPED)
def test_examples_are_printed_as_they_are_typed_and_parse(name: str) -> None:
    command, _ = command_of(name)
    shown = CliRunner().invoke(main, [name, "--help"]).stdout
    assert command.examples
    for line, _ in command.examples:
        assert f"\n  {line}\n" in shown
        words = shlex.split(line.rpartition("| ")[2])
        assert words[:2] == ["fun-asr", name]
        parent = click.Context(main, info_name="fun-asr", **main.context_settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(click.Path, "convert", lambda self, value, *_: self.coerce_path_result(value))
            command.make_context(name, words[2:], parent)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("transcribe -l d", {"de", "da"}),
        ("transcribe -l en,d", {"en,de", "en,da"}),
        ("batch -f s", {"srt", "stm"}),
        ("batch -f srt,s", {"srt,stm"}),
        ("transcribe --word_t", {"--word_timestamps"}),
        ("tra", {"train", "train-lm", "train-punctuation", "transcribe"}),
    ],
)
def test_bash_completes_values(typed: str, expected: set[str]) -> None:
    assert {value for _, value in completed(typed)} == expected


@pytest.mark.parametrize("typed", ["transcribe -m my", "batch --hotwords na", "transcribe ta"])
def test_bash_completes_files_where_one_is_meant(typed: str) -> None:
    found = completed(typed)
    assert found == [("file", typed.split()[-1])]


def completed(typed: str) -> list[tuple[str, str]]:
    """Kind and value of what bash offers for the last word of a command line."""
    words = f"fun-asr {typed}"
    environment = {
        **os.environ,
        "_FUN_ASR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", BASH], env=environment, capture_output=True, text=True, check=True
    ).stdout
    rows = [line.partition(",") for line in done.splitlines()]
    return [(kind, value) for kind, _, value in rows]
