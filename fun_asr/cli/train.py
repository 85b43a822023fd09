"""`fun-asr train CONFIG`: train or fine-tune a model on manifests."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Train or fine-tune a model on JSONL manifests.")
@click.argument("config", type=click.Path(path_type=Path))
def train(config: Path) -> None:
    """Train the model that the YAML file CONFIG describes; an interrupted run goes on from its newest checkpoint.

    The finished model is the folder `final` in the config's output_dir: use it as `fun-asr transcribe --model DIR`.
    """
    from fun_asr.configuration import load_yaml
    from fun_asr.training.config import TrainConfig
    from fun_asr.training.trainer import Trainer

    final = Trainer(load_yaml(TrainConfig, config), config.parent).run()
    click.echo(final)
