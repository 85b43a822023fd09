"""Training text: one sentence a line, packed or not, or what a JSONL manifest says."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fun_asr.errors import ManifestError


def read_lines(path: Path, sentence_of: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """The lines of a text file, without outer white space (`.xz` is unpacked), or a sentence of each row of a manifest.

    Arguments:
        path: text, or a manifest that ends in `.jsonl`.
        sentence_of: takes the sentence from a manifest's row.

    Raises:
        ManifestError: when the file cannot be read or a row has no sentence.
    """
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if path.suffix != ".jsonl":
                    yield line.strip()
                    continue
                try:
                    yield str(sentence_of(json.loads(line))).strip()
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise ManifestError(f"{path}:{number}: no utterance") from None
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error})") from None
