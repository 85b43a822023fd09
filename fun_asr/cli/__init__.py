"""The command line: one module a command, imported only when that command runs."""

import errno
import os
import sys
from importlib import import_module
from typing import Any, NamedTuple

import click

from fun_asr import __version__
from fun_asr.cli.common import debugging, set_debugging
from fun_asr.cli.streams import STANDARD_OUTPUT_NAME, give_up_output, not_encoded, prepare_streams
from fun_asr.cli.whisper_arguments import as_click_reads_them, reason_against, starts_with_recording
from fun_asr.errors import CheckpointError, ConfigError, FunASRError, Terminated

__all__ = ["main"]


class _LazyCommand(NamedTuple):
    target: str
    """Where the command is: "module:attribute"."""
    short_help: str
    """Its line in the list of commands, kept here so that the list needs no import of torch."""


_COMMANDS = {
    "batch": _LazyCommand("fun_asr.cli.batch:batch", "Transcribe folders and lists of recordings, resumable."),
    "configs": _LazyCommand(
        "fun_asr.cli.configs:configs", "List the configurations of models and trainings, or write them out."
    ),
    "convert": _LazyCommand(
        "fun_asr.cli.convert:convert", "Import weights, merge adapters, average or change models, shrink one to int8."
    ),
    "evaluate": _LazyCommand("fun_asr.cli.evaluate:evaluate", "Transcribe manifests and score the transcripts."),
    "format": _LazyCommand("fun_asr.cli.format:format_text", "Punctuation, case and digits for bare text."),
    "info": _LazyCommand("fun_asr.cli.info:info", "Print a model's parameters, FLOPs and memory."),
    "listen": _LazyCommand("fun_asr.cli.listen:listen", "Write what is said, while it is said."),
    "models": _LazyCommand("fun_asr.cli.models:models", "List published models that are known to work; download one."),
    "moe-stats": _LazyCommand("fun_asr.cli.moe_stats:moe_stats", "Show which experts a model uses for recordings."),
    "serve": _LazyCommand("fun_asr.cli.serve:serve", "Serve recognition over HTTP and WebSocket."),
    "train-lm": _LazyCommand("fun_asr.cli.train_lm:train_lm", "Train the language model of --decoding ctc on text."),
    "train": _LazyCommand("fun_asr.cli.train:train", "Train or fine-tune a model."),
    "train-punctuation": _LazyCommand(
        "fun_asr.cli.train_punctuation:train_punctuation", "Train the punctuation model on formatted text."
    ),
    "transcribe": _LazyCommand("fun_asr.cli.transcribe:transcribe", "Transcribe audio and video files."),
    "wer": _LazyCommand("fun_asr.cli.wer:wer", "Score hypotheses against references."),
}


_debug_option = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    callback=set_debugging,
    help="Show what the model computes with, and the traceback of an error.",
)


class _CommandGroup(click.Group):
    """Imports a command when it is invoked, and reports every failure in one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in _COMMANDS:
            module, attribute = _COMMANDS[cmd_name].target.split(":")
            command = getattr(import_module(module), attribute)
        if command is not None and _debug_option not in command.params:
            command.params.append(_debug_option)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.list_commands(ctx) and starts_with_recording(args[0]):
            args = ["transcribe", *args]
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, rest if command is None else as_click_reads_them(command, rest)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.short_help) for name, command in sorted(_COMMANDS.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(self, *arguments: Any, **options: Any) -> Any:
        prepare_streams()
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            # Of --help and --version, which no command prints.
            if error.filename != STANDARD_OUTPUT_NAME:
                raise
            give_up_output()
            click.echo(f"fun-asr: error: {_in_one_line(error)}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            # A closed pipe shows here, where click is quiet about it, and not in the interpreter's shutdown.
            sys.stdout.flush()
            return result
        except click.NoSuchOption as error:
            reason = reason_against(error.option_name)
            if reason is None:
                raise
            raise click.UsageError(f"{error.option_name} is not needed here: {reason}", error.ctx) from None
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt as error:
            terminated = isinstance(error, Terminated)
            click.echo(f"fun-asr: {'terminated' if terminated else 'interrupted'}", err=True)
            ctx.exit(143 if terminated else 130)
        except Exception as error:
            if debugging(ctx) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT_NAME:
                give_up_output()
            if isinstance(error, UnicodeEncodeError) and (cause := not_encoded(error)):
                error = FunASRError(cause)
            click.echo(f"fun-asr: error: {_in_one_line(error)}", err=True)
            # A model or an option that cannot be used is wrong usage: nothing was tried.
            ctx.exit(2 if isinstance(error, CheckpointError | ConfigError) else 1)


def _in_one_line(error: Exception) -> str:
    message = " ".join(str(error).splitlines())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        # Of a copy, the second is what could not be written.
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        name = error.filename2 if is_full and error.filename2 is not None else error.filename
        return f"{os.fsdecode(name)}: {error.strerror}"
    if isinstance(error, FunASRError | OSError):
        return message
    return f"{type(error).__name__}: {message} (--debug shows the traceback)"


@click.group(
    cls=_CommandGroup,
    params=[_debug_option],
    context_settings={
        "help_option_names": ["-h", "--help"],
        # --batch-size is --batch_size, and messages call it so, as --help and other recognisers do.
        "token_normalize_func": lambda token: token.replace("-", "_"),
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="fun-asr", message="%(prog)s %(version)s")
def main() -> None:
    """Fun-ASR: audio files in, accurate and well-formatted text out."""
