"""`fun-asr moe-stats AUDIO...`: which experts the decoder's routers use for recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fun_asr.cli.common import (
    check_device,
    load_transcriber,
    make_writable,
    model_options,
    print_error,
    renamed,
    without_standard_input,
)
from fun_asr.errors import FunASRError

if TYPE_CHECKING:
    from fun_asr.audio.excerpt import Excerpt
    from fun_asr.cli.routing_report import GroupRouting
    from fun_asr.options import ModelOptions, TranscriptionOptions
    from fun_asr.transcriber import Transcriber

_MANIFEST_SUFFIX = ".jsonl"


@dataclasses.dataclass
class _Group:
    """Recordings whose tokens are counted together."""

    name: str
    paths: dict[str | None, dict[str | Excerpt, None]] = dataclasses.field(default_factory=dict)
    """Each once, in their order, by the language they are transcribed in; None detects it."""

    def add(self, path: str | Excerpt, language: str | None) -> None:
        self.paths.setdefault(language, {})[path] = None


@click.command(short_help="Show which experts a model uses for recordings.")
@click.argument("audio", metavar="AUDIO...", nargs=-1, required=True)
@model_options
@click.option(
    "--by",
    type=click.Choice(["none", "language", "speaker"]),
    default="none",
    show_default=True,
    help="Count groups of a manifest's lines apart.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw a heat map, layers by experts.")
def moe_stats(
    audio: tuple[str, ...],
    model: ModelOptions,
    options: TranscriptionOptions,
    by: str,
    as_json: bool,
    png: Path | None,
) -> None:
    """Transcribe recordings and show where the decoder's routers send their text tokens.

    AUDIO is a file, a folder that stands for all recordings in it and below, - for standard input, or a manifest: a
    .jsonl file with one object a line that has audio_filepath and, optionally, offset, duration, language and speaker,
    or a data directory of Kaldi's. A manifest's language is what the recording is transcribed in, unless --language
    says otherwise or the model does not know it.

    Decoding is greedy. Each text token counts once a layer, when the decoder reads it to predict the next; the prompt,
    language detection and the end of text do not count, nor do recordings without speech. A recording that breaks off
    counts up to there. Layers and experts are numbered from 0; an expert is dead if none of these tokens chose it.

    Exit status: 0 all counted, 1 some or all failed (each with a line on standard error), 2 wrong usage, or a model
    without routed experts.
    """
    if by != "none" and not any(_is_manifest(path) for path in audio):
        raise click.UsageError(f"--by {by} needs a manifest ({_MANIFEST_SUFFIX}) that says who speaks what")
    check_device(model.device)

    from fun_asr.bundled import BUNDLED_MODEL
    from fun_asr.models.fun_asr.load import load_config

    directory = model.directory or BUNDLED_MODEL
    config = load_config(directory).decoder
    if not config.num_experts:
        print_error(FunASRError(f"{directory}: the model has no routed experts, so there is nothing to count"))
        click.get_current_context().exit(2)
    if png is not None:
        if importlib.util.find_spec("matplotlib") is None:
            raise FunASRError("--png needs matplotlib, which is not installed: pip install matplotlib")
        make_writable(png.parent)

    groups, failures = _find_groups(audio, by, options.language)
    for failure in failures:
        print_error(failure)
    failed = len(failures)
    counted: list[GroupRouting] = []
    if groups:
        transcriber = load_transcriber(model, options.language)
        # Greedy: a row of a beam that is given up would count for tokens that nobody reads.
        counted, unreadable = _count(transcriber, groups, dataclasses.replace(options, beam_size=1))
        failed += unreadable
    _print(counted, config.num_experts, config.num_experts_per_token, as_json=as_json)
    if png is not None and not _draw(counted, png):
        failed += 1
    if failed:
        click.get_current_context().exit(1)


def _is_manifest(path: str) -> bool:
    from fun_asr.inputs.kaldi import is_data_dir

    return is_data_dir(path) or (path.lower().endswith(_MANIFEST_SUFFIX) and not os.path.isdir(path))


def _find_groups(audio: Iterable[str], by: str, code: str | None) -> tuple[list[_Group], list[FunASRError]]:
    """The recordings by group, groups in the order of their first recording, and what cannot be used."""
    from fun_asr.inputs.discover import expanded, find_recordings
    from fun_asr.inputs.manifest import read_rows
    from fun_asr.text.languages import language_code

    groups: dict[str | None, _Group] = {}
    failures: list[FunASRError] = []

    def add(label: str | None, path: str | Excerpt, spoken: str | None) -> None:
        name = "all" if by == "none" else f"no {by}" if label is None else label
        groups.setdefault(label, _Group(name)).add(path, code or spoken)

    audio = [path for given in audio for path in expanded(given)]
    inputs = find_recordings([path for path in audio if not _is_manifest(path)])
    failures += inputs.failures
    for path in inputs.recordings:
        add(None, path, None)
    for manifest in filter(_is_manifest, audio):
        rows, errors = read_rows(Path(manifest))
        failures += errors
        for row in rows:
            spoken = None if row.language is None else language_code(row.language)
            label = {"none": None, "language": spoken or row.language, "speaker": row.speaker}[by]
            add(label, row.source, spoken)
    return list(groups.values()), failures


def _count(
    transcriber: Transcriber, groups: list[_Group], options: TranscriptionOptions
) -> tuple[list[GroupRouting], int]:
    """The statistics of each group, and how many recordings could not be read."""
    from tqdm import tqdm

    from fun_asr.cli.routing_report import GroupRouting
    from fun_asr.text.languages import language_in
    from fun_asr.transcript import TranscriptionFailure

    counted = []
    failed = 0
    names: dict[str, str] = {}  # file read for another name -> that name
    total = sum(len(paths) for group in groups for paths in group.paths.values())
    with contextlib.ExitStack() as stack, tqdm(total=total, unit="file", disable=None) as bar:
        for group in groups:
            recordings = 0
            # One group after another: a batch mixes recordings, and its rows do not say whose they are.
            with transcriber.collect_routing() as layers:
                for language, paths in group.paths.items():
                    code = None if language is None else language_in(transcriber.languages, language)
                    known = code if code in transcriber.languages else None
                    results = transcriber.run(
                        without_standard_input(paths, names, stack),
                        dataclasses.replace(options, language=known, languages=() if known else options.languages),
                    )
                    with contextlib.closing(results):
                        for result in results:
                            if isinstance(result, TranscriptionFailure):
                                failed += 1
                                with bar.external_write_mode(file=sys.stderr):
                                    print_error(renamed(result.error, names))
                            else:
                                recordings += 1
                            bar.update()
            counted.append(GroupRouting(group.name, recordings, layers))
    return counted, failed


def _print(groups: list[GroupRouting], experts: int, experts_per_token: int, *, as_json: bool) -> None:
    from fun_asr.cli.routing_report import routing_table

    if as_json:
        report = {
            "experts": experts,
            "experts_per_token": experts_per_token,
            "groups": [group.to_dict() for group in groups],
        }
        click.echo(json.dumps(report, ensure_ascii=False))
    elif groups:
        click.echo(routing_table(groups, experts_per_token), nl=False)


def _draw(groups: list[GroupRouting], path: Path) -> bool:
    """Write the heat map; False, with a line on standard error, when there is nothing to draw."""
    from fun_asr.cli.routing_report import heat_map
    from fun_asr.files import write_atomically

    groups = [group for group in groups if group.tokens]
    if not groups:
        print_error(FunASRError(f"{path}: not written, because no text token was counted"))
        return False
    write_atomically(path, heat_map(groups))
    return True
