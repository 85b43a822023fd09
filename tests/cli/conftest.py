"""Commands run on the tiny model."""

from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest

from fun_asr.cli import main

Run = Callable[..., click.testing.Result]


@pytest.fixture
def run_on_tiny_model(tiny_model_dir: Path) -> Callable[[str], Run]:
    """Gives, for a command's name, a function that runs it with further arguments and standard input."""

    def runner(command: str) -> Run:
        def run(*arguments: str | Path, stdin: bytes | None = None) -> click.testing.Result:
            options = ["--model", str(tiny_model_dir), "--device", "cpu", "--compute_type", "float32"]
            return click.testing.CliRunner().invoke(main, [command, *options, *map(str, arguments)], input=stdin)

        return run

    return runner


@pytest.fixture
def run_on_bundled_model() -> Run:
    """A function that runs a command line with the model inside the package."""

    def run(command: str, *arguments: str | Path) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, [command, "--device", "cpu", *map(str, arguments)])

    return run
