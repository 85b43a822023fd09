"""`fun-asr info MODEL`: what a model costs, before it is trained or loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fun_asr.cli.common import print_error
from fun_asr.errors import FunASRError

if TYPE_CHECKING:
    from fun_asr.models.cost import Cost
    from fun_asr.models.fun_asr.config import ModelConfig
    from fun_asr.models.fun_asr.cost import ModelInfo

_LABELS = {
    "encoder": "encoder",
    "ctc": "CTC head",
    "decoder": "decoder",
    "decoder.embedding": "  embedding, positions",
    "decoder.self_attention": "  self-attention",
    "decoder.cross_attention": "  cross-attention",
    "decoder.shared_expert": "  shared expert",
    "decoder.router": "  router",
    "decoder.routed_experts": "  routed experts",
    "decoder.norms": "  layer norms",
    "model": "whole model",
}


@click.command(short_help="Print a model's parameters, FLOPs and memory.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--tokens_per_second",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Decoder tokens a second of audio, prompt included.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with exact counts instead of tables.")
@click.pass_context
def info(ctx: click.Context, model: Path, tokens_per_second: float, as_json: bool) -> None:
    """Print what MODEL, a published or trained model's folder or file, or a YAML model config, costs.

    Weights are not read. For models of this project's own family, the active parameters are those that one token passes
    in the decoder: the shared parts and the chosen experts. Weights read are these, each once a token; the CPU's int8
    network reads more, since it multiplies by all experts at once.

    Exit status: 0, or 2 when MODEL cannot be used.
    """
    import dataclasses
    import json

    from fun_asr.configuration import load_yaml
    from fun_asr.models.fun_asr import cost
    from fun_asr.models.fun_asr.config import ModelConfig
    from fun_asr.models.fun_asr.load import load_config
    from fun_asr.models.registry import BUNDLED_FAMILY, identify

    try:
        is_config = model.suffix in (".yaml", ".yml")
        family = None if is_config else identify(model)
        if family is None or family.name == BUNDLED_FAMILY:
            config = load_config(model) if family is not None else load_yaml(ModelConfig, model)
            own = cost.describe(config, tokens_per_second=tokens_per_second)
            values, lines = dataclasses.asdict(own), _tables(own, config)
        else:
            published = family.module.describe(model, tokens_per_second)
            values, lines = dataclasses.asdict(published), _cost_table(published)
    except FunASRError as error:
        print_error(error)
        ctx.exit(2)
    click.echo(json.dumps(values, indent=2) if as_json else "\n".join(lines))


def _cost_table(cost: Cost) -> list[str]:
    parts = [*(part for part in cost.parameters if part != "model"), "model"]
    return [
        _row(f"Family {cost.family}", "parameters", "FLOPs/s"),
        *(
            _row(
                {"model": "whole model", "ctc": "CTC head", "ctc_head": "CTC head"}.get(part, part),
                _short(cost.parameters[part], "B"),
                _short(cost.flops_per_second[part], "G") if part in cost.flops_per_second else "",
            )
            for part in parts
        ),
        f"FLOPs a second of audio, in segments of {cost.segment_seconds:g} s with {cost.tokens_per_second:g} tokens a "
        "second.",
        "",
        _row("Bytes of the weights", *cost.weight_bytes),
        _row("in memory", *(_short(count, "G") for count in cost.weight_bytes.values())),
    ]


def _tables(info: ModelInfo, config: ModelConfig) -> list[str]:
    parameters = info.parameters
    experts = parameters["decoder.routed_experts"]
    in_use = parameters["model"].total - experts.total + experts.active
    labels = dict(_LABELS)
    if config.decoder.num_experts:
        labels["decoder.routed_experts"] += f", {config.decoder.num_experts_per_token} of {config.decoder.num_experts}"
    return [
        _row("Parameters", "total", "active"),
        *(
            _row(labels[part], _short(count.total, "B"), _short(count.active, "B"))
            for part, count in parameters.items()
        ),
        f"Active: what one token passes in the decoder. {_short(in_use, 'B')} with what audio frames pass: the",
        "encoder, the CTC head, and the projection to the cross-attention's keys and values.",
        "",
        _row("FLOPs a second of audio", "total", "attention"),
        *(
            _row(labels[part], _short(flops.total, "G"), _short(flops.attention, "G"))
            for part, flops in info.flops_per_second.items()
        ),
        f"In segments of {info.segment_seconds:g} s, over which attention is quadratic, with "
        f"{info.tokens_per_second:g} tokens a second.",
        "",
        _row("Bytes in decoding one sequence", *info.decode_bytes),
        _row("weights read a token", *(_short(kind.weights_per_token, "G") for kind in info.decode_bytes.values())),
        _row(
            "self-attention cache a token",
            *(_short(kind.self_cache_per_token, "G") for kind in info.decode_bytes.values()),
        ),
        _row(
            "cross-attention cache a second",
            *(_short(kind.cross_cache_per_second, "G") for kind in info.decode_bytes.values()),
        ),
    ]


def _row(label: str, *cells: str) -> str:
    return f"{label:<34}" + "".join(f"{cell:>12}" for cell in cells)


def _short(value: float, giga: str) -> str:
    """Three or four digits and a unit: 31.08 B; `giga` is the letter of 10^9, B for a count and G for a measure."""
    for factor, letter in ((10**12, "T"), (10**9, giga), (10**6, "M"), (10**3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {letter}"
    return f"{value:.4g}"
