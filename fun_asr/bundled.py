"""Where the package keeps its models and configurations; without torch, for processes that only hand out work."""

from pathlib import Path

BUNDLED_MODEL = Path(__file__).parent / "assets" / "model"
BUNDLED_CONFIGS = Path(__file__).parent / "configs"
BUNDLED_PUNCTUATION = Path(__file__).parent / "assets" / "punctuation"
