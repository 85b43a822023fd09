"""What Whisper's users type."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fun_asr.cli import main
from fun_asr.cli.whisper_arguments import as_click_reads_them

CLIP = Path(__file__).parents[1] / "data" / "libri-00001.opus"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_recording_alone_is_transcribed(tiny_model_dir: Path) -> None:
    assert run(CLIP, "-m", tiny_model_dir).stdout == run("transcribe", CLIP, "-m", tiny_model_dir).stdout != ""
    assert "No such command 'transscribe'" in run("transscribe", CLIP).stderr


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--word_timestamps True a.wav", "--word-timestamps a.wav"),
        ("--word-timestamps False a.wav", "--no-word-timestamps a.wav"),
        ("--word_timestamps=False a.wav", "--no-word-timestamps a.wav"),
        ("--word_timestamps a.wav", "--word_timestamps a.wav"),
        ("--strict True a.wav", "--strict a.wav"),
        ("--strict False a.wav", "a.wav"),
        ("--language True a.wav", "--language True a.wav"),
        ("-- --strict False", "-- --strict False"),
    ],
)
def test_switches_take_true_and_false(typed: str, read: str) -> None:
    @click.command()
    @click.option("--word_timestamps/--no_word_timestamps")
    @click.option("--strict", is_flag=True)
    @click.option("--language")
    @click.argument("paths", nargs=-1)
    def command() -> None:
        pass

    assert [part.replace("_", "-") for part in as_click_reads_them(command, typed.split())] == [
        part.replace("_", "-") for part in read.split()
    ]


@pytest.mark.parametrize("option", ["--condition_on_previous_text", "--fp16", "--best-of", "--temperature"])
def test_what_is_not_needed_is_answered_in_one_line(option: str) -> None:
    result = run("transcribe", CLIP, option, "1")
    assert result.exit_code == 2
    assert f"Error: {option.replace('best-of', 'best_of')} is not needed here: " in result.stderr
    assert "No such option '--nonsense'" in run("transcribe", CLIP, "--nonsense").stderr


@pytest.mark.parametrize("typed", ["--beam-sise", "--beam_sise"])
def test_options_are_called_as_the_help_calls_them(typed: str) -> None:
    said = run("transcribe", CLIP, typed, "2").stderr
    assert "'--beam_sise'" in said and "'--beam_size'" in said and "beam-si" not in said
    assert "'--beam_size' requires" in run("transcribe", CLIP, "--beam-size").stderr
    assert "'--beam_size'" in run("transcribe", CLIP, "--beam-size", "none").stderr


@pytest.mark.parametrize(("named", "fetched"), [("small", "whisper-small"), ("turbo", "whisper-large-v3-turbo")])
def test_a_published_model_s_name_is_answered_with_how_to_fetch_it(named: str, fetched: str) -> None:
    result = run("transcribe", CLIP, "--model", named)
    assert result.exit_code == 2 and f"fun-asr models download {fetched}" in result.stderr


def test_the_version_has_a_short_option() -> None:
    assert run("-V").stdout == run("--version").stdout
