"""Where the package keeps its models; without torch, for processes that only need to know what would run."""

from pathlib import Path

BUNDLED_MODEL = Path(__file__).parent / "assets" / "model"
BUNDLED_PUNCTUATION = Path(__file__).parent / "assets" / "punctuation"
