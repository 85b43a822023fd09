"""`fun-asr wer -r REF -h HYP`: error rates of hypotheses against references."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from fun_asr.errors import ScoringError
from fun_asr.scoring.reading import INPUT_FORMATS

if TYPE_CHECKING:
    from fun_asr.scoring.reading import Pair
    from fun_asr.scoring.summary import Grouping, Summary
    from fun_asr.scoring.wer import Score

Command = TypeVar("Command", bound=Callable[..., object])

_LISTED = 10
"""Ids, or problems of one kind, printed before the rest is only counted."""

_count = functools.partial(click.option, type=click.IntRange(min=0), show_default=True)
_files = functools.partial(click.option, type=click.Path(path_type=Path, exists=True), multiple=True)

_READING = (
    _files(
        "-r",
        "--ref",
        "references",
        required=True,
        help="References; several, each with its own --hyp, are scored together.",
    ),
    _files("-h", "--hyp", "hypotheses", required=True, help="Hypotheses."),
    _files("--compare", help="Hypotheses of another system, to compare with those of --hyp."),
    click.option(
        "--format", "both_formats", type=click.Choice(INPUT_FORMATS), help="Of all files. [default: found out]"
    ),
    click.option("--ref_format", type=click.Choice(INPUT_FORMATS), help="Of the references."),
    click.option("--hyp_format", type=click.Choice(INPUT_FORMATS), help="Of the hypotheses."),
    click.option("--ref_key", help="The references' key or column of text in JSON, csv and tsv."),
    click.option("--hyp_key", help="The hypotheses'."),
    click.option("--spoken", is_flag=True, help="Score the words before inverse text normalization."),
    click.option("--allow_empty", is_flag=True, help="Score references without words as silence."),
    click.option("--ignore_missing", is_flag=True, help="Leave references out that have no hypothesis."),
)
_SCORING = (
    click.option(
        "--normalizer",
        type=click.Choice(["none", "basic", "basic_marks", "english"]),
        default="none",
        show_default=True,
        help="Whisper's normaliser for any language, or for English, on both sides; basic_marks keeps the combining "
        "marks that Whisper's basic drops, without which Hindi and Thai lose vowels.",
    ),
    click.option("-c", "--cer", "characters", is_flag=True, help="Count characters instead of words."),
    click.option("--words", is_flag=True, help="Count words in every language."),
    click.option(
        "--alternations/--no_alternations",
        default=None,
        help="Take { a / b } and (optional) in references for choices. [default: in trn and stm]",
    ),
    _count("--bootstrap", "replicates", default=1000, help="Samples for intervals; 0 for none."),
    click.option(
        "--resample",
        type=click.Choice(["utterance", "speaker"]),
        default="utterance",
        show_default=True,
        help="What these samples are drawn from.",
    ),
    _count("--seed", default=0, help="Of the samples."),
)
_REPORTING = (
    click.option(
        "--by",
        type=click.Choice(["set", "corpus", "language", "speaker"]),
        multiple=True,
        help="A table of these groups; may be repeated.",
    ),
    click.option(
        "--weights", metavar="NAME=WEIGHT,...", help="Also the weighted mean of the groups of the first --by, or sets."
    ),
    click.option(
        "--within",
        type=click.Choice(["words", "duration"]),
        default="words",
        show_default=True,
        help="What weighs an utterance within its group in --weights.",
    ),
    click.option("-a", "--align", is_flag=True, help="Print each utterance's alignment, in sclite's form."),
    _count("--confusions", "most_confused", default=10, help="How many of each kind to list."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead."),
    click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to look at."),
)


def _options(command: Command) -> Command:
    for option in reversed(_READING + _SCORING + _REPORTING):
        command = option(command)
    return command


class _Command(click.Command):
    """Takes -h for --hyp, as in jiwer, but alone for --help, as everywhere else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


@click.command(
    cls=_Command,
    short_help="Score hypotheses against references.",
    context_settings={"help_option_names": ["--help"]},
)
@_options
@click.pass_context
def wer(
    ctx: click.Context,
    references: tuple[Path, ...],
    hypotheses: tuple[Path, ...],
    compare: tuple[Path, ...],
    both_formats: str | None,
    ref_format: str | None,
    hyp_format: str | None,
    ref_key: str | None,
    hyp_key: str | None,
    spoken: bool,
    allow_empty: bool,
    ignore_missing: bool,
    normalizer: Literal["none", "basic", "basic_marks", "english"],
    characters: bool,
    words: bool,
    alternations: bool | None,
    replicates: int,
    resample: Literal["utterance", "speaker"],
    seed: int,
    by: tuple[Grouping, ...],
    weights: str | None,
    within: Literal["words", "duration"],
    align: bool,
    most_confused: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Print the word error rate of hypotheses, the files or folders HYP, against references, REF.

    Formats: a folder of .txt (beside audio, LibriSpeech's, or transcripts in .txt, .srt, .vtt or .json), lines of text,
    Kaldi's text or data directory, trn, ctm, stm, srt, vtt, JSON Lines in NeMo's keys (text, pred_text), csv or tsv
    with a header. Utterances are matched by their ids; ids that are paths may start at different folders. Lines of text
    are matched line by line, or as one with subtitles.

    A reference without a hypothesis counts as deletions; a hypothesis without a reference does not count. Both are
    listed on standard error. Chinese, Japanese, Thai and other languages written without spaces are counted in
    characters.

    Exit status: 0, or 2 when something cannot be used, with a line for each on standard error, and then nothing else.
    """
    if characters and words:
        raise click.UsageError("--cer and --words exclude each other")
    if len(references) != len(hypotheses):
        raise click.UsageError(f"{len(references)} --ref need as many --hyp, not {len(hypotheses)}")
    if compare and len(compare) != len(references):
        raise click.UsageError(f"{len(references)} --ref need as many --compare, not {len(compare)}")
    weigh_by: Grouping = by[0] if by else "set"
    parsed_weights = None if weights is None else _parse_weights(weights)

    from fun_asr.scoring.reading import read_pair
    from fun_asr.scoring.summary import Bootstrap, summarize
    from fun_asr.scoring.wer import score
    from fun_asr.text.normalize import get_normalizer

    read = functools.partial(
        read_pair,
        reference_format=ref_format or both_formats,
        hypothesis_format=hyp_format or both_formats,
        reference_key=ref_key,
        hypothesis_key=hyp_key,
        spoken=spoken,
        empty=allow_empty,
    )
    normalize = get_normalizer(normalizer)
    sides = [hypotheses, compare] if compare else [hypotheses]
    try:
        with contextlib.ExitStack() as stack:
            files = {path: _as_file(path, stack) for path in {*references, *hypotheses, *compare}}
            pairs = [_read_all(references, side, read, files) for side in sides]
        scores = [
            score(
                pair.references,
                pair.hypotheses,
                normalize=normalize,
                unit="characters" if characters else "words" if words else "auto",
                alternations=pair.alternations if alternations is None else alternations,
                ignore_missing=ignore_missing,
                empty=allow_empty,
            )
            for pair in pairs
        ]
        summary = summarize(
            scores[0],
            by=by,
            bootstrap=Bootstrap(replicates=replicates, seed=seed, unit=resample),
            second=scores[1] if compare else None,
            weights=parsed_weights,
            weigh_by=weigh_by,
            within=within,
        )
        if html is not None:
            _write_page(summary, html, _title(hypotheses, references))
    except ScoringError as error:
        for problem in _shortened(error.problems):
            click.echo(f"fun-asr: error: {problem}", err=True)
        ctx.exit(2)
    _print(summary, align=align, most_confused=most_confused, as_json=as_json)
    for result, pair, paths in zip(scores, pairs, sides, strict=True):
        for note in _notes(result, pair, paths):
            click.echo(f"fun-asr: {note}", err=True)


def _as_file(path: Path, stack: contextlib.ExitStack) -> Path:
    """A pipe, such as `<(cat *.ctm)`, as a file, since it can be read but once; files and folders as they are."""
    if not path.is_fifo():
        return path
    spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fun-asr-")), path.name)
    spool.write_bytes(path.read_bytes())
    return spool


def _with_pipes(line: str, files: Mapping[Path, Path]) -> str:
    """The line, naming pipes and not the files that stand for them."""
    for path, file in files.items():
        line = line if path == file else line.replace(str(file), str(path))
    return line


def _read_all(
    references: Sequence[Path],
    hypotheses: Sequence[Path],
    read: Callable[[Path, Path], Pair],
    files: Mapping[Path, Path],
) -> Pair:
    """All sets as one pair, read from the files that stand for their paths.

    Raises:
        ScoringError: with the problems of all.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        try:
            pair = read(files[reference], files[hypothesis])
            pairs.append(dataclasses.replace(pair, doubts=tuple(_with_pipes(doubt, files) for doubt in pair.doubts)))
        except ScoringError as error:
            problems += (_with_pipes(problem, files) for problem in error.problems)
    if problems:
        raise ScoringError(*problems)
    return _together(references, pairs)


def _parse_weights(text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or not 0 < weights[name.strip()] < float("inf"):
            raise click.BadParameter(f"{part!r} is not NAME=WEIGHT with a positive weight", param_hint="--weights")
    return weights


def _together(paths: Sequence[Path], pairs: Sequence[Pair]) -> Pair:
    """One pair of several; where they share ids, these start with their sets' names."""
    from fun_asr.scoring.reading import Pair

    names = [_set_name(path.absolute()) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    shared = len({key for pair in pairs for key in pair.references}) < sum(len(pair.references) for pair in pairs)
    doubts = tuple(doubt for pair in pairs for doubt in pair.doubts)
    together = Pair({}, {}, [], any(pair.alternations for pair in pairs), doubts)
    for name, pair in zip(names, pairs, strict=True):
        prefix = f"{name}/" if shared else ""
        for key, utterance in pair.references.items():
            together.references[prefix + key] = dataclasses.replace(utterance, id=prefix + key, set=name)
        together.hypotheses.update({prefix + key: utterance for key, utterance in pair.hypotheses.items()})
        together.extra.extend(prefix + key for key in pair.extra)
    return together


def _set_name(path: Path) -> str:
    """A folder's name, or a file's without its format: `v1.0` and `v1.5` are two sets."""
    if path.name == "text":
        return path.parent.name
    is_known = path.suffix.lower().strip(".") in {*INPUT_FORMATS, "txt", "ndjson", "manifest"}
    return path.stem if is_known and not path.is_dir() else path.name


def _notes(score: Score, pair: Pair, paths: Sequence[Path]) -> list[str]:
    """What is missing on either side."""
    name = ", ".join(map(str, paths))
    notes = [*pair.doubts]
    if score.missing:
        how = "left out" if score.partial else "scored as deletions"
        notes.append(f"{name}: has no hypothesis for {_listed(score.missing)}; {how}")
    if pair.extra:
        notes.append(f"{name}: not scored, for want of a reference: {_listed(pair.extra)}")
    return notes


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - _LISTED
    return f"{len(ids)}: " + " ".join(ids[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _shortened(problems: Sequence[str]) -> list[str]:
    more = len(problems) - 2 * _LISTED
    return [*problems[: 2 * _LISTED], *([f"and {more} more"] if more > 0 else [])]


def _title(hypotheses: Sequence[Path], references: Sequence[Path]) -> str:
    names = [", ".join(path.name or str(path) for path in paths) for paths in (hypotheses, references)]
    return names[0] if names[0] == names[1] else f"{names[0]} against {names[1]}"


def _write_page(summary: Summary, path: Path, title: str) -> None:
    from fun_asr.files import write_atomically
    from fun_asr.scoring.page.page import render_page

    page = render_page(summary, path.parent, title=title).encode("utf-8", "backslashreplace")
    try:
        write_atomically(path, page)
    except OSError as error:
        raise ScoringError(f"{path}: cannot be written: {error.strerror or error}") from None


def _print(summary: Summary, *, align: bool, most_confused: int, as_json: bool) -> None:
    from fun_asr.scoring.report import alignments, render_text, to_dict

    if as_json:
        report = to_dict(summary, most_confused=most_confused, with_alignments=align)
        click.echo(json.dumps(report, ensure_ascii=False))
        return
    click.echo(render_text(summary, most_confused=most_confused), nl=False)
    if align:
        for alignment in alignments(summary.score.utterances):
            click.echo(f"\n{alignment.rstrip()}")
