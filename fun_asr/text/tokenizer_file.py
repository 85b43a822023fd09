"""A `tokenizer.json` of the tokenizers library, whose errors are bare exceptions and, for some files, panics."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from fun_asr.errors import CheckpointError

__all__ = ["read_tokenizer"]

LARGEST_FILE = 64 * 2**20  # bytes


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer that can tell its vocabulary and write and read a text.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CheckpointError(f"{path}: larger than {LARGEST_FILE >> 20} MiB, no tokenizer")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.get_vocab(with_added_tokens=True)
        # Parts that do not fit together show when they are used.
        tokenizer.decode(tokenizer.encode("a b", add_special_tokens=False).ids)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{path}: no tokenizer ({' '.join(str(error).split())[:100]})") from None
    return tokenizer
