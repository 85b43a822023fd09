"""What a run writes of itself: CSV files, TensorBoard's event files where that is installed, and curves at the end."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fun_asr.training.checkpoints import say

__all__ = ["RunJournal", "draw_curves"]

LOG_FILE, DEV_FILE, CURVES_FILE = "log.csv", "dev.csv", "curves.png"
_INSTALL = "pip install .[train]"


class RunJournal:
    """The log of a run.

    Arguments:
        output: folder of the run.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._board = _open_board(output)

    def log(self, step: int, row: Mapping[str, object], scalars: Mapping[str, float]) -> None:
        """A row of `log.csv`, and what TensorBoard shows of it."""
        _append(self.output / LOG_FILE, row)
        self._show(step, "train", scalars)

    def score(self, step: int, name: str, rates: Mapping[str, float]) -> None:
        """A row of `dev.csv`: error rates of a dev set, in percent."""
        _append(self.output / DEV_FILE, {"step": step, "set": name, **{n: round(r, 2) for n, r in rates.items()}})
        self._show(step, f"dev/{name}", rates)

    def close(self) -> None:
        """Write what is not written yet."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _show(self, step: int, group: str, scalars: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in scalars.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.flush()


def _open_board(output: Path) -> Any:
    """TensorBoard's writer; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(output / "tensorboard")


def _append(path: Path, row: Mapping[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _columns(path: Path, by: str = "") -> dict[str, list[tuple[int, float]]]:
    """The numbers of a CSV file over its steps, by column, and by what stands in the column `by`."""
    found: dict[str, list[tuple[int, float]]] = {}
    if not path.exists():
        return found
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name and name.endswith(("loss", "wer")) and value:
                    label = f"{row[by]} {name}" if by else name
                    found.setdefault(label, []).append((int(row["step"]), float(value)))
    return found


def draw_curves(output: Path) -> Path | None:
    """Draw a run's losses and error rates over its steps into `curves.png`; None where matplotlib is not installed."""
    losses, rates = _columns(output / LOG_FILE), _columns(output / DEV_FILE, by="set")
    if not losses and not rates:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        say(f"no {CURVES_FILE}: matplotlib is not installed ({_INSTALL})")
        return None
    shown = [(axis, lines) for axis, lines in (("loss", losses), ("WER %", rates)) if lines]
    figure = Figure(figsize=(8, 3.5 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (axis, lines) in enumerate(shown, start=1):
        axes = figure.add_subplot(len(shown), 1, place)
        for label, points in lines.items():
            steps, values = zip(*sorted(points), strict=True)
            axes.plot(steps, values, marker="." if len(points) < 50 else "", label=label)
        axes.set_xlabel("step")
        axes.set_ylabel(axis)
        axes.grid(alpha=0.3)
        axes.legend()
    path = output / CURVES_FILE
    figure.savefig(path, dpi=120)
    return path
