"""`fun-asr configs`: the configurations of models and trainings that come with the package."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from fun_asr.bundled import BUNDLED_CONFIGS, BUNDLED_MODEL
from fun_asr.cli.common import make_writable
from fun_asr.errors import FunASRError

_MODEL = re.compile(r"(?:\.\./)+fun_asr/assets/model\b")
"""Where the configurations find the model inside the package, as long as they are in the package's own folder."""


@click.command(short_help="List the configurations of models and trainings, or write them out.")
@click.option(
    "-o", "--output_dir", type=click.Path(path_type=Path, file_okay=False), help="Write them below, to be changed."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there and differ.")
def configs(output_dir: Path | None, overwrite: bool) -> None:
    """List the configurations of models and trainings that come with the package, or write them out.

    Those for `fun-asr train` begin from the model inside the package, wherever they are written to; their manifests and
    outputs are named from the folder that they are in.
    """
    found = {path.relative_to(BUNDLED_CONFIGS): path for path in sorted(BUNDLED_CONFIGS.rglob("*.yaml"))}
    if output_dir is None:
        for name, path in found.items():
            first = path.read_text(encoding="utf-8").partition("\n")[0]
            click.echo(f"{name.as_posix():<32}{first.lstrip('# ')}")
        return
    from fun_asr.files import write_atomically

    # In quotation marks, as a path may hold what YAML would read as something else.
    model = json.dumps(os.path.abspath(BUNDLED_MODEL))
    contents = {
        output_dir / name: _MODEL.sub(lambda _: model, path.read_text(encoding="utf-8")).encode()
        for name, path in found.items()
    }
    others = [path for path, content in contents.items() if path.exists() and path.read_bytes() != content]
    if others and not overwrite:
        raise FunASRError(f"{others[0]}: exists and is another; --overwrite replaces it")
    make_writable(output_dir)
    for path, content in contents.items():
        write_atomically(path, content)
