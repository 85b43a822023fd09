"""The table and the picture of router statistics."""

import io

import numpy as np
import PIL.Image
import pytest
import torch

from fun_asr.cli.routing_report import MAX_PANELS, GroupRouting, heat_map, routing_table
from fun_asr.kernels import Routing
from fun_asr.layers.routing_stats import LayerRouting


def group(name: str, experts: int = 4, tokens: int = 10) -> GroupRouting:
    """Two layers: the first sends every token to experts 0 and 1, the second spreads them over all."""
    layers = [LayerRouting(number, experts) for number in range(2)]
    probs_NE = torch.full((tokens, experts), 1 / experts)
    for layer in layers:
        first = torch.arange(tokens) * 2 * layer.layer
        experts_NK = torch.stack([first, first + 1], dim=1) % experts
        layer.add(Routing(torch.full((tokens, 2), 0.5), experts_NK, probs_NE))
    return GroupRouting(name, 3, layers)


def test_table() -> None:
    silent = GroupRouting("de", 1, [LayerRouting(0, 4), LayerRouting(1, 4)])
    assert routing_table([group("en"), silent], 2) == (
        "Load in % of a layer's choices, 2 of 4 experts a token (even: 25.0); "
        "entropy in nats and as a share of log E = 1.386.\n"
        "\n"
        "en: 3 recordings, 10 text tokens\n"
        "layer |     0     1     2     3 | max/mean  entropy  share  dead\n"
        "    0 |  50.0  50.0   0.0   0.0 |     2.00    1.386  1.000  2 3\n"
        "    1 |  25.0  25.0  25.0  25.0 |     1.00    1.386  1.000  -\n"
        "\n"
        "de: 1 recording, 0 text tokens\n"
    )


def test_without_tokens_json_says_nothing_of_entropy() -> None:
    assert GroupRouting("de", 1, [LayerRouting(0, 2)]).to_dict() == {
        "group": "de",
        "recordings": 1,
        "tokens": 0,
        "layers": [
            {"layer": 0, "load": [0, 0], "max_over_mean": None, "entropy": None, "entropy_share": None, "dead": None}
        ],
    }


@pytest.mark.parametrize("name", ["en", "a$b_{", "long " * 20])
@pytest.mark.parametrize("experts", [2, 8, 64])
def test_heat_map_is_a_picture_that_grows_with_its_groups(name: str, experts: int) -> None:
    one, three = (PIL.Image.open(io.BytesIO(heat_map([group(name, experts)] * groups))) for groups in (1, 3))
    assert one.format == three.format == "PNG"
    assert three.width * three.height > 1.5 * one.width * one.height
    assert np.unique(np.asarray(one.convert("RGB")).reshape(-1, 3), axis=0).shape[0] > 10


@pytest.mark.slow
def test_heat_map_of_many_speakers_keeps_to_a_size() -> None:
    many = PIL.Image.open(io.BytesIO(heat_map([group(str(n)) for n in range(3 * MAX_PANELS)])))
    assert max(many.size) < 4000
