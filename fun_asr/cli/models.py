"""`fun-asr models`: which published models are known to work, and fetching one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fun_asr.hub.catalogue import PublishedModel

_NUMBERS = {2, 3, 4, 6}
"""Columns of the table."""


@click.group(invoke_without_command=True, short_help="List published models that are known to work; download one.")
@click.option(
    "-f",
    "--output_format",
    "output_format",
    type=click.Choice(["txt", "json"]),
    default="txt",
    show_default=True,
    help="json has everything: all languages, exact counts, where an error rate is from.",
)
@click.pass_context
def models(ctx: click.Context, output_format: str) -> None:
    """List the published models that are known to work with --model; nothing is fetched.

    GB are those of the weights in bfloat16; float32 takes twice, int8 half as much. Checked says what was run: the
    published weights, or the network beside that of the transformers package with random ones.
    """
    if ctx.invoked_subcommand is not None:
        return
    from fun_asr.hub.catalogue import catalogue

    found = catalogue()
    if output_format == "json":
        rows = [dataclasses.asdict(model) | {"weight_bytes": model.weight_bytes} for model in found]
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("\n".join(_table(found)))


@models.command()
@click.argument("name")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="Folder of the files. [default: the model's name]"
)
@click.option("--revision", help="Branch, tag or commit of the repository. [default: its main branch]")
@click.pass_context
def download(ctx: click.Context, name: str, folder: Path | None, revision: str | None) -> None:
    """Fetch the model NAME, one of the list or owner/name at the Hugging Face hub, and print the folder it is in.

    Only what loading it needs is fetched. A cut-off download goes on where it was cut when the command is repeated.
    Needs the extra hub. This is the only command that opens a connection.

    Exit status: 0, 1 when it cannot be fetched, 2 for an unknown name.
    """
    from fun_asr.errors import ConfigError
    from fun_asr.hub.catalogue import hub_id

    try:
        hub = hub_id(name)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    from fun_asr.hub.download import download as fetch

    click.echo(fetch(hub, folder or Path(name.rpartition("/")[2]), revision))


def _table(found: Sequence[PublishedModel]) -> list[str]:
    rows = [("name", "family", "parameters", "GB", "languages", "licence", "WER %", "checked", "hub")]
    rows += [
        (
            model.name,
            model.family,
            f"{model.parameters / 1e6:.0f} M",
            f"{model.weight_bytes['bfloat16'] / 1e9:.2f}",
            model.languages[0] if len(model.languages) == 1 else str(len(model.languages)),
            model.licence,
            "-" if model.wer is None else f"{model.wer:.2f}",
            model.checked,
            model.hub,
        )
        for model in found
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(map(_aligned, range(len(row)), row, widths)) for row in rows]
    sources: dict[str, list[str]] = {}
    for model in found:
        if model.source is not None:
            sources.setdefault(model.source, []).append(model.name)
    usual = max(sources, key=lambda source: len(sources[source]))
    notes = [
        f"WER: {source}" if source == usual else f"WER of {', '.join(names)}: {source}"
        for source, names in sources.items()
    ]
    return [*(line.rstrip() for line in lines), "", *notes]


def _aligned(column: int, cell: str, width: int) -> str:
    return cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
