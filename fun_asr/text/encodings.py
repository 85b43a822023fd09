"""Files of text that other programs wrote: their byte order marks, and UTF-16 behind one."""

from __future__ import annotations

import codecs
import os
import stat

__all__ = ["decoded", "encoding_of", "is_text", "without_mark"]

# The longer ones first: UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LOOKED_AT = 4096  # bytes


def encoding_of(content: bytes) -> tuple[int, str]:
    """Length and encoding of a byte order mark; UTF-8 without one."""
    return next(((len(mark), name) for mark, name in _MARKS.items() if content.startswith(mark)), (0, "utf-8"))


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in what its byte order mark says, as editors and PowerShell write it on Windows.

    Raises:
        UnicodeDecodeError: its `object` is the content behind the mark.
    """
    length, encoding = encoding_of(content)
    return content[length:].decode(encoding)


def without_mark(content: bytes) -> bytes:
    """The content without its byte order mark, in UTF-8 if that says UTF-16 or UTF-32.

    For lists of names, which without a mark need not be UTF-8.
    """
    length, encoding = encoding_of(content)
    if encoding == "utf-8":
        return content[length:]
    return content[length:].decode(encoding, "replace").encode()


def is_text(path: str) -> bool:
    """Whether a regular file begins as text does, in UTF-8 or behind a byte order mark; False of an empty file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            head = file.read(_LOOKED_AT)
    except (OSError, ValueError):
        return False
    length, encoding = encoding_of(head)
    # The last character may be cut.
    text = codecs.getincrementaldecoder(encoding)()
    try:
        characters = text.decode(head[length:])
    except UnicodeDecodeError:
        return False
    return bool(characters) and not any(c < " " and c not in "\t\n\r\f\v\x1a\x1b" for c in characters)
