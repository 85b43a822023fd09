"""`fun-asr serve`: recognition over HTTP and WebSocket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from fun_asr.cli.common import check_device, load_transcriber, recognition_options
from fun_asr.cli.help import GroupedCommand
from fun_asr.cli.log import log_options
from fun_asr.cli.say import say
from fun_asr.errors import FunASRError

if TYPE_CHECKING:
    from fun_asr.options import ModelOptions, TranscriptionOptions

KEY_VARIABLE = "FUN_ASR_API_KEY"


@click.command(
    cls=GroupedCommand,
    short_help="Serve recognition over HTTP and WebSocket.",
    examples=(
        ("fun-asr serve", "for programs on this machine, with a page at http://127.0.0.1:8000"),
        ("fun-asr serve --host 0.0.0.0 --max_upload 200", "for other machines: set FUN_ASR_API_KEY before"),
        (
            'fun-asr serve -l de --hotwords "Quillan, Ada Lovelace"',
            "German, with names it should know, where none says more",
        ),
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--api_key",
    envvar=KEY_VARIABLE,
    help=f"What clients have to send; better in {KEY_VARIABLE}, which other users of the machine cannot read.",
)
@click.option(
    "--max_upload", type=click.IntRange(min=1), default=1024, show_default=True, help="MiB of a recording at most."
)
@click.option(
    "--max_requests",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Recordings in work or waiting; more are told to come back (429).",
)
@click.option("--max_streams", type=click.IntRange(min=1), default=32, show_default=True, help="Live streams at once.")
@click.option(
    "--request_timeout",
    type=click.IntRange(min=1),
    default=3600,
    show_default=True,
    help="Seconds after which the work for one recording is given up.",
)
@recognition_options
@log_options
def serve(
    host: str,
    port: int,
    api_key: str | None,
    max_upload: int,
    max_requests: int,
    max_streams: int,
    request_timeout: int,
    model: ModelOptions,
    options: TranscriptionOptions,
) -> None:
    """Serve recognition over HTTP and WebSocket, as OpenAI's and FunASR's clients speak them, and a page to try it.

    The options of recognition hold where a client says nothing. SIGTERM lets requests under way end. Needs the extra
    `serve`.

    Exit status: 0 after a signal, 1 when it cannot listen, 2 wrong usage.
    """
    try:
        from fun_asr.server.engine import Engine
        from fun_asr.server.limits import ServerLimits
        from fun_asr.server.run import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fun_asr"):
            raise
        raise FunASRError(f"{error.name} is missing: pip install .[serve]") from None
    check_device(model.device)
    if api_key is not None and not api_key.strip():
        raise click.UsageError(f"--api_key or {KEY_VARIABLE} is empty")
    transcriber = load_transcriber(model, options.language)
    options = transcriber.check(options)
    limits = ServerLimits(
        upload=max_upload << 20, requests=max_requests, streams=max_streams, request=float(request_timeout)
    )

    def started(address: str, number: int) -> None:
        shown = f"[{address}]" if ":" in address else address
        say(f"listening at http://{shown}:{number} (process {os.getpid()})", address=address, port=number)

    engine = Engine(transcriber, options, limits)
    try:
        run(engine, host, port, key=api_key, on_start=started)
    except OSError as error:
        engine.close()
        raise FunASRError(f"{host}:{port}: cannot listen there: {error.strerror or error}") from None
