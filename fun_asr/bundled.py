"""Where the package keeps its model; without torch, for processes that only need to know what would run."""

from pathlib import Path

BUNDLED_MODEL = Path(__file__).parent / "assets" / "model"
