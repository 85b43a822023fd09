"""`fun-asr train-lm TEXT...`: the language model of the CTC head's prefix search."""

from __future__ import annotations

from pathlib import Path

import click

from fun_asr.errors import ConfigError


@click.command(short_help="Train the language model of --decoding ctc on text.")
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-m", "--model", "model_dir", required=True, type=click.Path(path_type=Path), help="Model directory it is put into."
)
@click.option("--exclude", multiple=True, type=click.Path(path_type=Path), help="Manifest whose words are left out.")
@click.option("--order", type=click.IntRange(2, 6), default=5, show_default=True, help="Pieces of the longest n-grams.")
@click.option(
    "--least_counts",
    default="2,3,4,4",
    show_default=True,
    help="How often an n-gram of each order from 2 on must occur to be kept.",
)
@click.option("--discount", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.8, show_default=True)
def train_lm(
    texts: tuple[Path, ...],
    model_dir: Path,
    exclude: tuple[Path, ...],
    order: int,
    least_counts: str,
    discount: float,
) -> None:
    """Train an n-gram model over the pieces of a model's CTC head and put it into the model's directory.

    Each TEXT has one sentence a line (also as .xz), or is a JSONL manifest, of which `text` is taken. Digits and
    symbols are written out as they are said.
    """
    from fun_asr.text.tokenizer import CTCTokenizer
    from fun_asr.training.language_model import read_sentences, train
    from fun_asr.weights.directory import CTC_LANGUAGE_MODEL_FILE, CTC_TOKENIZER_FILE

    try:
        least = dict(enumerate(map(int, least_counts.split(",")), start=2))
    except ValueError:
        raise click.BadParameter("expected numbers with commas between", param_hint="--least_counts") from None
    tokenizer = CTCTokenizer(model_dir / CTC_TOKENIZER_FILE)
    sentences = [tokenizer.encode(sentence) for sentence in read_sentences(texts, exclude)]
    if not sentences:
        raise ConfigError(f"{texts[0]}: holds no sentence to train on")
    output = model_dir / CTC_LANGUAGE_MODEL_FILE
    train(sentences, order, least, discount).save(output)
    click.echo(output)
