"""What a measurement ran on."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["processor"]

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8")


LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "CT2_FORCE_CPU_ISA")
"""Environment variables that make libraries do without some of them."""


def processor() -> str:
    """The machine's processor, what it multiplies, and what of that the environment forbids."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown processor"
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.findall(r"\w+", found[1])) if (found := re.search(r"flags\s*: (.*)", text)) else set()
    known = ", ".join(feature for feature in FEATURES if feature in flags)
    limits = "".join(f", {variable}={os.environ[variable]}" for variable in LIMITS if variable in os.environ)
    return f"{name[1] if name else 'unknown processor'} ({known}){limits}"
