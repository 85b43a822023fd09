"""`fun-asr convert`: published weights into a model directory to train from, and trained ones into a small one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fun_asr.weights.sources import WeightSource


@click.group(short_help="Import Whisper or BERT weights, merge adapters, average models, give one experts, shrink one.")
def convert() -> None:
    """Make model directories."""


@convert.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--tokenizer", type=click.Path(path_type=Path), required=True, help="Whisper's tokenizer.json.")
@click.option("--ctc_text", type=click.Path(path_type=Path), required=True, help="Lower-case sentences, one a line.")
@click.option("--ctc_vocabulary", default=1000, show_default=True, help="SentencePiece pieces of the CTC head.")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="Model config (YAML).")
@click.option("--seed", default=0, show_default=True, help="Of the new modules' initialisation.")
def whisper(
    weights: Path, output_dir: Path, tokenizer: Path, ctc_text: Path, ctc_vocabulary: int, config: Path, seed: int
) -> None:
    """Make a model directory from the CTranslate2 file WEIGHTS of a Whisper model.

    The CTC head, convolution modules, routers and routed experts are initialised; a SentencePiece vocabulary for the
    CTC head is trained on --ctc_text.
    """
    import dataclasses

    import torch

    from fun_asr.configuration import load_yaml
    from fun_asr.convert.whisper import load_ctranslate2
    from fun_asr.models.fun_asr.config import ModelConfig
    from fun_asr.models.fun_asr.network import FunASR
    from fun_asr.text.tokenizer import train_ctc_tokenizer
    from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE, save_model

    model_config = load_yaml(ModelConfig, config)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / TOKENIZER_FILE).write_bytes(tokenizer.read_bytes())
    pieces = train_ctc_tokenizer(ctc_text, output_dir / CTC_TOKENIZER_FILE, ctc_vocabulary)
    ctc_config = dataclasses.replace(model_config.ctc, vocab_size=pieces.vocab_size)
    model_config = dataclasses.replace(model_config, ctc=ctc_config)
    torch.manual_seed(seed)
    model = FunASR(model_config)
    load_ctranslate2(model, weights)
    save_model(output_dir, model_config, model.state_dict(), [], int8=False)
    click.echo(output_dir)


@convert.command()
@click.argument("weights_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), required=True, help="Config of train-punctuation (YAML).")
@click.option("--layers", type=click.IntRange(min=0), default=4, show_default=True, help="Lowest layers to keep.")
@click.option("--pieces", type=click.IntRange(min=1), default=6500, show_default=True, help="Pieces to keep.")
@click.option("--positions", type=click.IntRange(min=18), default=192, show_default=True, help="Most pieces of a text.")
@click.option("--seed", default=0, show_default=True, help="Of the heads' initialisation.")
def bert(
    weights_dir: Path, output_dir: Path, config: Path, layers: int, pieces: int, positions: int, seed: int
) -> None:
    """Make the punctuation model that train-punctuation starts from, of the uncased BERT in WEIGHTS_DIR.

    WEIGHTS_DIR holds config.json, vocab.txt and model.safetensors. The pieces that the training texts of --config use
    most are kept.
    """
    from collections import Counter

    import torch

    from fun_asr.configuration import load_yaml
    from fun_asr.convert.bert import punctuation_start
    from fun_asr.punctuation.network import save_punctuation
    from fun_asr.training.punctuation.labels import label_sentence
    from fun_asr.training.punctuation.texts import Texts
    from fun_asr.training.punctuation.trainer import PunctuationTrainConfig

    values = load_yaml(PunctuationTrainConfig, config)
    texts = Texts(values.texts, values.exclude, config.parent)
    counts = Counter(word.word for line in (*texts.connected, *texts.alone) for word in label_sentence(line))
    torch.manual_seed(seed)
    model = punctuation_start(weights_dir, counts, num_layers=layers, num_pieces=pieces, max_positions=positions)
    save_punctuation(output_dir, model, int8=False)
    click.echo(output_dir)


def _upstream_weights(model_dir: Path) -> WeightSource | None:
    """The tensors of a folder of FunASR's; None for other folders, whose weights are in safetensors."""
    from fun_asr.models.sanm.checkpoint import open_upstream, upstream_model

    return None if upstream_model(model_dir) is None else open_upstream(model_dir)


@convert.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
def int8(model_dir: Path, output_dir: Path) -> None:
    """Write MODEL_DIR, a trained or a published folder, with its matrices as int8 per output channel.

    That is a quarter of the size in float32. Of published models it takes those in safetensors and FunASR's.
    """
    from fun_asr.models.fun_asr.load import load_config
    from fun_asr.models.registry import BUNDLED_FAMILY, identify
    from fun_asr.weights.directory import companion_files, load_stored, save_model
    from fun_asr.weights.int8 import dequantize
    from fun_asr.weights.shrink import shrink_to_int8

    if identify(model_dir).name == BUNDLED_FAMILY:
        state = dequantize(load_stored(model_dir))
        save_model(output_dir, load_config(model_dir), state, companion_files(model_dir), int8=True)
    else:
        shrink_to_int8(model_dir, output_dir, _upstream_weights(model_dir))
    click.echo(output_dir)


@convert.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
def int4(model_dir: Path, output_dir: Path) -> None:
    """Write MODEL_DIR, a published folder, with its language model's matrices as int4.

    That is an eighth of their size in float32; all other matrices are int8. --compute_type int4 computes with these
    integers as they are.
    """
    from fun_asr.errors import ConfigError
    from fun_asr.models.registry import FAMILIES, identify
    from fun_asr.weights.shrink import shrink_to_int4

    family = identify(model_dir)
    if not family.has_language_model:
        known = ", ".join(name for family in FAMILIES if family.has_language_model for name in family.model_types)
        raise ConfigError(f"{model_dir}: int4 is for models with a language model ({known}); use convert int8")
    shrink_to_int4(model_dir, output_dir, _upstream_weights(model_dir))
    click.echo(output_dir)


@convert.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("adapter_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
def merge(model_dir: Path, adapter_dir: Path, output_dir: Path) -> None:
    """Write MODEL_DIR with the LoRA adapter in ADAPTER_DIR merged into it.

    The adapter is the folder `adapter` that `fun-asr train` wrote, or one that the PEFT library wrote for the model.
    """
    from fun_asr.convert.merge import merge as merge_adapter

    merge_adapter(model_dir, adapter_dir, output_dir)
    click.echo(output_dir)


@convert.command()
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.argument("models", metavar="MODEL_DIR[=WEIGHT]...", nargs=-1, required=True)
@click.option(
    "--silence_frames",
    type=click.IntRange(min=0),
    help="Frames that stand for the silence after the sound, for weights that were padded; the first model's without.",
)
def average(output_dir: Path, models: tuple[str, ...], silence_frames: int | None) -> None:
    """Write the weighted mean of models that were trained from the same start.

    A mean of a fine-tuned model and its start is often better than both, and keeps more of what the start could do
    (WiSE-FT, Wortsman et al. 2022). The CTC head, which may be new, is the first model's.
    """
    import dataclasses

    from fun_asr.convert.average import average_states
    from fun_asr.models.fun_asr.load import load_config
    from fun_asr.weights.directory import companion_files, load_stored, save_model
    from fun_asr.weights.int8 import dequantize

    folders, weights = [], []
    for model in models:
        folder, _, weight = model.rpartition("=") if "=" in model else (model, "", "1")
        try:
            weights.append(float(weight))
        except ValueError:
            raise click.BadParameter(f"{weight!r} is no number", param_hint=model) from None
        folders.append(Path(folder))
    if min(weights) < 0 or sum(weights) <= 0:
        raise click.UsageError("weights must not be negative, and not all zero")
    state = average_states([dequantize(load_stored(folder)) for folder in folders], weights, keep=("ctc.",))
    config = load_config(folders[0])
    if silence_frames is not None:
        encoder = dataclasses.replace(config.encoder, silence_frames=silence_frames)
        config = dataclasses.replace(config, encoder=encoder)
    save_model(output_dir, config, state, companion_files(folders[0]), int8=False)
    click.echo(output_dir)


@convert.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.option("--num_experts", type=click.IntRange(min=0), required=True, help="Routed experts a layer; 0 for none.")
@click.option("--num_experts_per_token", type=click.IntRange(min=0), required=True, help="Of them, chosen by a token.")
@click.option("--expert_dim", type=click.IntRange(min=0), required=True, help="Hidden width of one.")
@click.option("--seed", default=0, show_default=True, help="Of their initialisation.")
def experts(
    model_dir: Path, output_dir: Path, num_experts: int, num_experts_per_token: int, expert_dim: int, seed: int
) -> None:
    """Write MODEL_DIR with new routed experts in the place of its own; until they are trained, they add nothing."""
    import dataclasses

    from fun_asr.convert.experts import replace_experts
    from fun_asr.models.fun_asr.load import load_config
    from fun_asr.weights.directory import companion_files, load_stored, save_model
    from fun_asr.weights.int8 import dequantize

    config = load_config(model_dir)
    decoder = dataclasses.replace(
        config.decoder,
        num_experts=num_experts,
        num_experts_per_token=num_experts_per_token,
        expert_dim=expert_dim,
    )
    config = dataclasses.replace(config, decoder=decoder)
    state = replace_experts(config, dequantize(load_stored(model_dir)), seed)
    save_model(output_dir, config, state, companion_files(model_dir), int8=False)
    click.echo(output_dir)
