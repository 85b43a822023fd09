"""The texts that a punctuation model is trained on, and the parts of them that are held out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fun_asr.errors import ConfigError
from fun_asr.training.data import read_manifest
from fun_asr.training.punctuation.labels import label_sentence, read_sentences


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Formatted text to learn from."""

    path: str
    """One sentence a line, `.xz` or not; or a JSONL manifest with `written`."""
    weight: int = 1
    """How often an epoch sees it."""
    connected: bool = True
    """Whether the lines follow each other as in a book; else each is a text of its own."""
    dev: tuple[str, ...] = ()
    """Ranges of lines, as "100-200" counted from 1, that choose `mark_bias`; "all" for all of them."""
    test: tuple[str, ...] = ()
    """Ranges of lines that are only scored, at the end."""

    def __post_init__(self) -> None:
        for lines in (*self.dev, *self.test):
            slice_of(lines)


def slice_of(lines: str) -> slice:
    """Lines "100-200", counted from 1, or "all", as a slice.

    Raises:
        ConfigError: when `lines` is neither.
    """
    if lines == "all":
        return slice(None)
    first, _, last = str(lines).partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise ConfigError(f'expected a range of lines such as "100-200" or "all", got {lines!r}')
    return slice(int(first) - 1, int(last))


class Texts:
    """The sentences of texts by what they are for.

    Arguments:
        sources: the texts.
        exclude: manifests whose sentences (`text`) are left out of training.
        base: folder that relative paths are relative to.

    Raises:
        ManifestError: when a file cannot be read.
    """

    def __init__(self, sources: Sequence[TextSource], exclude: Sequence[str], base: Path) -> None:
        self.dev: list[list[str]] = []
        """One list of sentences a text."""
        self.tests: dict[str, list[list[str]]] = {}
        """By the names of the files."""
        excluded = {_key(row.text) for manifest in exclude for row in read_manifest(base / manifest)}
        left: list[tuple[TextSource, list[str]]] = []
        for source in sources:
            sentences = list(read_sentences(base / source.path))
            self.dev += _held_out(sentences, source, source.dev)
            if source.test:
                self.tests[Path(source.path).name] = _held_out(sentences, source, source.test)
            held_out = _chosen(sentences, (*source.dev, *source.test))
            if not source.connected:
                excluded |= {_key(sentences[i]) for i in held_out}
            left.append((source, [s for i, s in enumerate(sentences) if s and i not in held_out]))
        self.connected: list[str] = []
        """Training sentences that follow each other."""
        self.alone: list[str] = []
        """Training sentences that are a text each."""
        for source, sentences in left:
            kept = [sentence for sentence in sentences if _key(sentence) not in excluded]
            (self.connected if source.connected else self.alone).extend(kept * source.weight)


def _held_out(sentences: Sequence[str], source: TextSource, ranges: Iterable[str]) -> list[list[str]]:
    texts = [[s for s in sentences[slice_of(lines)] if label_sentence(s)] for lines in ranges]
    return texts if source.connected else [[sentence] for text in texts for sentence in text]


def _chosen(sentences: Sequence[str], ranges: Iterable[str]) -> set[int]:
    return {i for lines in ranges for i in range(len(sentences))[slice_of(lines)]}


def _key(sentence: str) -> str:
    """What two writings of one sentence have in common."""
    return " ".join(re.findall(r"[^\W_]+", sentence.lower().replace("’", "'")))
