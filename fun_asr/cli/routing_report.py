"""Router statistics of groups of recordings: as a table, as JSON, and as a picture."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fun_asr.layers.routing_stats import LayerRouting

__all__ = ["GroupRouting", "heat_map", "routing_table"]

MAX_PANELS = 36
MAX_WIDTH = 18.5  # of a picture, inches, unless one panel is wider
MAX_NUMBERED_EXPERTS = 16  # in a picture; the cells of more are too small for numbers


@dataclass(frozen=True)
class GroupRouting:
    """What the routers did with the recordings of one language, speaker or other group."""

    name: str
    recordings: int
    """Recordings that were read to their end."""
    layers: list[LayerRouting]

    @property
    def tokens(self) -> int:
        """Text tokens counted, the same in every layer."""
        return self.layers[0].tokens

    @property
    def title(self) -> str:
        """The name and the size of the group."""
        return f"{self.name}: {self.size}"

    @property
    def size(self) -> str:
        """How much was counted, in words."""
        return f"{_counted(self.recordings, 'recording')}, {_counted(self.tokens, 'text token')}"

    def to_dict(self) -> dict[str, Any]:
        """The fields under their own names, for JSON; what cannot be said without tokens is None."""
        return {
            "group": self.name,
            "recordings": self.recordings,
            "tokens": self.tokens,
            "layers": [_layer_to_dict(layer) for layer in self.layers],
        }


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _layer_to_dict(layer: LayerRouting) -> dict[str, Any]:
    counted = layer.tokens > 0
    return {
        "layer": layer.layer,
        "load": layer.load,
        "max_over_mean": round(layer.max_over_mean, 4) if counted else None,
        "entropy": round(layer.entropy, 4) if counted else None,
        "entropy_share": round(layer.entropy_share, 4) if counted else None,
        "dead": layer.dead if counted else None,
    }


def _percent(layer: LayerRouting) -> list[float]:
    load = layer.load
    return [100 * count / sum(load) for count in load]


def routing_table(groups: Sequence[GroupRouting], experts_per_token: int) -> str:
    """A block of lines for each group, with a line for each layer; the last line is ended.

    Arguments:
        groups: at least one.
        experts_per_token: K.
    """
    experts = groups[0].layers[0].num_experts
    lines = [
        f"Load in % of a layer's choices, {experts_per_token} of {experts} experts a token "
        f"(even: {100 / experts:.1f}); entropy in nats and as a share of log E = {math.log(experts):.3f}."
    ]
    header = "layer |" + "".join(f"{expert:6}" for expert in range(experts)) + " | max/mean  entropy  share  dead"
    for group in groups:
        lines += ["", group.title]
        if group.tokens:
            lines += [header, *map(_row, group.layers)]
    return "\n".join(lines) + "\n"


def _row(layer: LayerRouting) -> str:
    load = "".join(f"{percent:6.1f}" for percent in _percent(layer))
    dead = " ".join(map(str, layer.dead)) or "-"
    entropy = f"{layer.entropy:7.3f}  {layer.entropy_share:5.3f}"
    return f"{layer.layer:5} |{load} | {layer.max_over_mean:8.2f}  {entropy}  {dead}"


def heat_map(groups: Sequence[GroupRouting]) -> bytes:
    """A PNG with a panel for each group: layers down, experts across, the load in % on one scale for all.

    Of more than 36 groups, those with the most tokens are drawn.

    Arguments:
        groups: with tokens; at least one.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    drawn = list(groups)
    if len(drawn) > MAX_PANELS:
        most = sorted(range(len(drawn)), key=lambda index: -drawn[index].tokens)[:MAX_PANELS]
        drawn = [drawn[index] for index in sorted(most)]
    layers, experts = len(drawn[0].layers), drawn[0].layers[0].num_experts
    loads = [[_percent(layer) for layer in group.layers] for group in drawn]
    scale = Normalize(0, max(percent for rows in loads for row in rows for percent in row))

    numbered = experts <= MAX_NUMBERED_EXPERTS
    panel_width = max((0.5 if numbered else 0.2) * experts, 3.6) + 0.6  # inches
    panel_height = max(0.35 * layers, 1.2) + 1.0
    columns = min(math.ceil(math.sqrt(len(drawn))), max(1, int(MAX_WIDTH / panel_width)))
    rows = math.ceil(len(drawn) / columns)
    width, height = max(columns * panel_width, 5.0), rows * panel_height + 0.9
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for group, load, axis in zip(drawn, loads, axes.flat, strict=False):
        image = axis.imshow(load, norm=scale, cmap="viridis", aspect="auto")
        longest = int(10 * panel_width)
        name = group.name if len(group.name) <= longest else group.name[: longest - 1] + "…"
        axis.set_title(f"{name}\n{group.size}", fontsize=10, parse_math=False)
        axis.set_xlabel("expert")
        axis.set_ylabel("decoder layer")
        axis.set_yticks(range(layers))
        axis.set_xticks(range(0, experts, 1 if numbered else 8))
        cells = [(x, y, percent) for y, row in enumerate(load) for x, percent in enumerate(row)]
        dead = [(x, y) for x, y, percent in cells if percent == 0]
        axis.scatter([x for x, _ in dead], [y for _, y in dead], marker="x", s=16, linewidths=0.8, color="white")
        if numbered:
            for x, y, percent in cells:
                if percent:
                    colour = "black" if scale(percent) > 0.6 else "white"
                    axis.text(x, y, f"{percent:.0f}", ha="center", va="center", fontsize=8, color=colour)
    for axis in axes.flat[len(drawn) :]:
        axis.set_axis_off()
    length = min(0.9 * width, 6.0)
    bar = figure.colorbar(
        image, ax=axes, location="bottom", pad=0.2 / height, shrink=length / width, aspect=length / 0.15
    )
    bar.set_label(f"load, % of a layer's choices (red: even, {100 / experts:.1f}; ×: dead)")
    bar.ax.axvline(100 / experts, color="red")
    if len(drawn) < len(groups):
        figure.suptitle(f"the {len(drawn)} of {len(groups)} groups with the most tokens")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks is drawn as boxes; the table has it in full.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
