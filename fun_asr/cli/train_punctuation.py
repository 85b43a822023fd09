"""`fun-asr train-punctuation CONFIG`: train the model that restores punctuation and case."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("train-punctuation", short_help="Train the punctuation model on formatted text.")
@click.argument("config", type=click.Path(path_type=Path))
def train_punctuation(config: Path) -> None:
    """Train the model that the YAML file CONFIG describes; an interrupted run goes on from its newest checkpoint.

    The finished model is the folder `final` in the config's output_dir: use it as `fun-asr format --model DIR`. How
    well it does on held-out text is printed and written to `scores.json`.
    """
    from fun_asr.configuration import load_yaml
    from fun_asr.training.punctuation.trainer import PunctuationTrainConfig, PunctuationTrainer

    final = PunctuationTrainer(load_yaml(PunctuationTrainConfig, config), config.parent).run()
    click.echo(final)
