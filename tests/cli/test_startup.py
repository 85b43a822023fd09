"""What every command shares: a quick start, names of options, and one line for an error."""

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

import fun_asr
from fun_asr.cli import main
from fun_asr.errors import FunASRError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.fixture
def add_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[click.Command], None]:
    def add(command: click.Command) -> None:
        assert command.name is not None
        monkeypatch.setitem(main.commands, command.name, command)

    return add


def failing_command(error: BaseException) -> click.Command:
    @click.command("fail")
    def fail() -> None:
        raise error

    return fail


def test_import_of_the_command_line_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import fun_asr.cli; print(time.perf_counter() - start)"
    assert min(float(run_python(code).stdout) for _ in range(3)) < 0.3


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-command"]])
def test_no_heavy_import_before_a_command_runs(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from fun_asr.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "print('loaded:', sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))\n"
    )
    assert run_python(code).stdout.endswith("loaded: []\n")


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("transcribe", "train", "moe-stats"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", ["transcribe", "train", "moe-stats"])
def test_every_listed_command_exists(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "--debug" in result.stdout


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"fun-asr {fun_asr.__version__}\n")


def test_runs_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "fun_asr", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"fun-asr {fun_asr.__version__}\n"


@pytest.mark.parametrize("flag", ["--batch-size", "--batch_size"])
@pytest.mark.parametrize("form", ["{flag}=3", "{flag} 3"])
def test_dash_and_underscore_are_the_same_in_options(
    flag: str, form: str, add_command: Callable[[click.Command], None]
) -> None:
    @click.command("show")
    @click.option("--batch-size", type=int)
    @click.argument("path")
    def show(batch_size: int, path: str) -> None:
        click.echo(f"{batch_size} {path}")

    add_command(show)
    result = CliRunner().invoke(main, ["show", *form.format(flag=flag).split(), "a_file-name.wav"])
    assert (result.exit_code, result.stdout) == (0, "3 a_file-name.wav\n")


def test_an_error_is_one_line_on_stderr(add_command: Callable[[click.Command], None]) -> None:
    add_command(failing_command(FunASRError("talk.wav: not audio;\nconvert it first")))
    result = CliRunner().invoke(main, ["fail"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "fun-asr: error: talk.wav: not audio; convert it first\n"


def test_an_unexpected_error_is_one_line_that_names_its_type(add_command: Callable[[click.Command], None]) -> None:
    add_command(failing_command(ZeroDivisionError("division by zero")))
    result = CliRunner().invoke(main, ["fail"])
    assert result.exit_code == 1
    assert result.stderr == "fun-asr: error: ZeroDivisionError: division by zero (--debug shows the traceback)\n"


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_lets_the_traceback_through(arguments: list[str], add_command: Callable[[click.Command], None]) -> None:
    error = FunASRError("talk.wav", "not audio")
    add_command(failing_command(error))
    assert CliRunner().invoke(main, arguments).exception is error


def test_interruption_is_one_line_and_status_130(add_command: Callable[[click.Command], None]) -> None:
    add_command(failing_command(KeyboardInterrupt()))
    result = CliRunner().invoke(main, ["fail"])
    assert (result.exit_code, result.stderr) == (130, "fun-asr: interrupted\n")


def test_a_closed_stdout_is_quiet() -> None:
    code = (
        "import click\n"
        "from fun_asr.cli import main\n"
        "main.add_command(click.Command('speak', callback=lambda: print('words')))\n"
        "main(['speak'])\n"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        process = subprocess.run([sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write_end)
    assert process.stderr == ""


def test_import_of_the_package_is_light_and_its_api_is_listed() -> None:
    code = "import sys, fun_asr; print('torch' in sys.modules, *dir(fun_asr))"
    loaded, *names = run_python(code).stdout.split()
    assert loaded == "False"
    assert {"load_model", "Transcriber", "Transcript"} <= set(names)


def test_an_unknown_attribute_of_the_package_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        fun_asr.no_such_name  # noqa: B018
