"""The report to look at: one HTML page that needs nothing beside it but, to be heard, the recordings."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fun_asr.scoring.page.cards import confusion_charts, in_columns, make_cards, unit_name
from fun_asr.scoring.report import rate_name
from fun_asr.scoring.summary import Summary
from fun_asr.scoring.wer import UtteranceScore

__all__ = ["render_page"]

_MOST_UTTERANCES = 20_000
"""In the table: those with the most errors."""
_NAMES = {"WER": "Word error rate", "CER": "Character error rate"}


def render_page(summary: Summary, folder: Path, *, title: str) -> str:
    """The page.

    Arguments:
        summary: what to report.
        folder: where the page will be; recordings are named from there.
        title: what was scored.
    """
    name = rate_name(summary.score)
    seconds = [u.reference.duration for u in summary.score.utterances if u.reference.duration is not None]
    shown = _worst(summary)
    template = _templates().get_template("page.html")
    return template.render(
        title=title,
        style=_own("page.css"),
        script=_own("page.js"),
        rate_title=_NAMES[name],
        unit=unit_name(summary),
        summary=summary,
        score=summary.score,
        total=summary.total,
        seconds=sum(seconds) if seconds else None,
        columns=in_columns(make_cards(summary, name)),
        confusions=confusion_charts(summary.confusions),
        shown=len(shown),
        table={"rate": name, "rows": [_row(utterance, folder) for utterance in shown]},
    )


def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(
        thousands="{:,}".format,
        percent=_percent,
        points=lambda difference: f"{100 * difference:+.2f}",
    )
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return templates


def _own(name: str) -> Markup:
    # The package's own text, so nothing in it is to be escaped.
    return Markup(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _percent(rate: float | None, digits: int = 2) -> str:
    return "–" if rate is None else f"{100 * rate:.{digits}f}"


def _worst(summary: Summary) -> list[UtteranceScore]:
    utterances = summary.score.utterances
    if len(utterances) <= _MOST_UTTERANCES:
        return list(utterances)
    return sorted(utterances, key=lambda utterance: -utterance.counts.errors)[:_MOST_UTTERANCES]


def _row(utterance: UtteranceScore, folder: Path) -> dict[str, Any]:
    """What the page's script shows as a row of the table."""
    reference, hypothesis, counts = utterance.reference, utterance.hypothesis, utterance.counts
    audio = reference.audio or (hypothesis and hypothesis.audio)
    return {
        "id": reference.id,
        "speaker": reference.speaker,
        "seconds": reference.duration or (hypothesis and hypothesis.duration),
        "confidence": hypothesis and hypothesis.confidence,
        "counts": [counts.hits, counts.substitutions, counts.deletions, counts.insertions],
        "missing": hypothesis is None,
        "characters": utterance.in_characters,
        "audio": _address(audio, folder) if audio else None,
        "pieces": _pieces(utterance),
    }


def _address(path: str, folder: Path) -> str:
    """A recording's address, from the page where both are below one folder, so that they can move together."""
    absolute, home = os.path.abspath(path), os.path.abspath(folder)
    if os.path.commonpath([absolute, home]) == os.path.sep:
        return Path(absolute).as_uri()
    # As an address of a file, so that # and % in names are escaped.
    start = len(Path(os.path.sep).as_uri())
    return Path(os.path.sep, "x", os.path.relpath(absolute, home)).as_uri()[start + 2 :]


def _pieces(utterance: UtteranceScore) -> list[list[str]]:
    """The alignment as [both], [reference, hypothesis], with "" for nothing; equal tokens in one piece."""
    separator = "" if utterance.in_characters else " "
    pieces = []
    for chunk in utterance.alignment:
        left = utterance.reference_tokens[chunk.ref_start_idx : chunk.ref_end_idx]
        right = utterance.hypothesis_tokens[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            pieces.append([separator.join(left)])
        else:
            pieces += [[left[i] if left else "", right[i] if right else ""] for i in range(max(len(left), len(right)))]
    return pieces
