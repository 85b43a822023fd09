"""What memory the process keeps between layers and batches of ever new shapes, and what it gives back."""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["return_free_memory", "set_up_memory"]

KEPT_ONEDNN_PRIMITIVES = 32  # compiled operations: the layers of one run of the encoder share theirs
KEPT_TORCH_OPERATIONS = 16

# Parameters of glibc's mallopt; before version 2.35 it takes 32 MB at most.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLDS = (1 << 30, 1 << 25)


def set_up_memory() -> None:
    """Bound what torch keeps of shapes met, and let its activations use memory again that others have left.

    Call it before the process's first operation of torch: only then are the variables read. Those that are set stay.
    """
    # By default oneDNN keeps 1,024 with their memory, one for every shape met: an hour's recording took 0.7 GB more.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_ONEDNN_PRIMITIVES))
    # torch keeps another 1,024 of its own: every step of a search has a new shape, and three hours took 0.7 GB more.
    os.environ.setdefault("LRU_CACHE_CAPACITY", str(KEPT_TORCH_OPERATIONS))
    # glibc maps and unmaps the memory of every large activation, and the kernel clears each page of it on first touch:
    # a tenth of the encoder's time. From its heap, in pages of 2 MB, that is once a batch; `return_free_memory` then
    # does what the threshold would have done.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if any(_call_glibc("mallopt", _MMAP_THRESHOLD, size) for size in _LARGEST_MMAP_THRESHOLDS):
        _call_glibc("mallopt", _TRIM_THRESHOLD, (1 << 31) - 1)


def return_free_memory() -> None:
    """Give freed memory back to the system: batches of many sizes leave glibc's heap ever larger, 3 GB in an hour."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(function: str, *arguments: int) -> int:
    """0 where the C library is another one."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return int(getattr(ctypes.CDLL(None), function)(*arguments))
    return 0
