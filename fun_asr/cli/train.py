"""`fun-asr train CONFIG`: train or fine-tune a model on manifests."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Train or fine-tune a model on JSONL manifests.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a value of CONFIG, such as steps=100 or optimizer.learning_rate=1e-4. May be repeated.",
)
@click.option("--dry_run", is_flag=True, help="Look through the manifests, try the largest batch, print what it takes.")
def train(config: Path, changes: tuple[str, ...], dry_run: bool) -> None:
    """Train the model that the YAML file CONFIG describes; an interrupted run goes on from its newest checkpoint.

    The finished model is the folder `final` in the config's output_dir: use it as `fun-asr transcribe --model DIR`.

    Several GPUs or processes train together under torchrun: torchrun --nproc-per-node 2 -m fun_asr train CONFIG.
    """
    from fun_asr.configuration import load_yaml
    from fun_asr.training.config import TrainConfig
    from fun_asr.training.processes import join_processes, leave_processes
    from fun_asr.training.trainer import Trainer, finished_model

    values = load_yaml(TrainConfig, config, changes)
    final = None if dry_run else finished_model(values, config.parent)
    if final is None:
        processes = join_processes()
        try:
            trainer = Trainer(values, config.parent, processes)
            if dry_run:
                from fun_asr.training.trial import try_run

                found = try_run(trainer)
                if processes.first:
                    click.echo(found.text())
                return
            final = trainer.run()
            if not processes.first:
                return
        finally:
            leave_processes()
    click.echo(final)
