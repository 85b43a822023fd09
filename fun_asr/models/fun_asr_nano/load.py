"""Fun-ASR-Nano's folders: FunASR's with `model.pt`, and transformers' with safetensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch

from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.models.fun_asr_nano.config import MODEL, NanoConfig, from_transformers, from_upstream
from fun_asr.models.fun_asr_nano.network import Nano
from fun_asr.models.fun_asr_nano.prompt import END, START
from fun_asr.models.fun_asr_nano.weights import ctc_tensors, embedding_name, head_name, weight_table
from fun_asr.models.published import Values
from fun_asr.models.qwen_tokenizer import QwenTokenizer
from fun_asr.models.sanm.checkpoint import has_weights, open_upstream, read_config, upstream_model
from fun_asr.text.ranked_bpe import RankedBPE
from fun_asr.weights.assemble import assemble, cache_dtype, check_shapes
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType, bfloat16_is_fast
from fun_asr.weights.sources import WeightSource, open_safetensors, read_json

__all__ = ["Checkpoint", "load_network", "open_checkpoint", "read_network_config"]

CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
CTC_TOKENIZER_FILE = "multilingual.tiktoken"
PROMPT_TOKENS = (START, END)
NO_BRANCH = "words have no times: these weights have no CTC branch"
NO_VOCABULARY = f"words have no times: {CTC_TOKENIZER_FILE}, the CTC branch's vocabulary, is missing"


@dataclass(frozen=True)
class Checkpoint:
    """An open folder."""

    config: NanoConfig
    upstream: bool
    """Whether it is FunASR's."""
    source: WeightSource
    tokenizer: QwenTokenizer
    """The language model's."""
    stop: tuple[int, ...]
    """Tokens that end a text."""
    ctc_tokenizer: RankedBPE | None
    """None where words have no times, as `notes` says."""
    notes: tuple[str, ...] = ()


def open_checkpoint(directory: Path) -> Checkpoint:
    """Open a folder and read what is small in it.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
    """
    return _open_upstream(directory) if upstream_model(directory) == MODEL else _open_transformers(directory)


def read_network_config(directory: Path) -> NanoConfig:
    """The sizes of the model in a folder; where there are weights, only which tensors they have is looked at.

    Raises:
        CheckpointError: when a configuration is missing or damaged.
    """
    if upstream_model(directory) != MODEL:
        path = directory / CONFIG_FILE
        return from_transformers(read_json(path), str(path))
    settings = read_config(directory)
    path = _language_model(directory, settings) / CONFIG_FILE
    has_ctc = has_weights(directory) and bool(ctc_tensors(open_upstream(directory).shapes))
    return from_upstream(settings, Values(read_json(path), str(path)), has_ctc=has_ctc)


def _open_transformers(directory: Path) -> Checkpoint:
    path = directory / CONFIG_FILE
    values = read_json(path)
    config = from_transformers(values, str(path))
    tokenizer = _tokenizer(directory, config)
    generation = directory / GENERATION_FILE
    settings = Values(read_json(generation), str(generation)) if generation.exists() else None
    if settings is None or "eos_token_id" not in settings:
        settings = Values(values, str(path)).inner("text_config")
    stop = _stop(settings, tokenizer, config)
    return Checkpoint(config, False, open_safetensors(directory), tokenizer, stop, None, (NO_BRANCH,))


def _open_upstream(directory: Path) -> Checkpoint:
    settings = read_config(directory)
    folder = _language_model(directory, settings)
    path = folder / CONFIG_FILE
    text = Values(read_json(path), str(path))
    source = open_upstream(directory)
    # Published both with the branch and without, and configured with it in either case.
    ctc = ctc_tensors(source.shapes)
    config = from_upstream(settings, text, has_ctc=bool(ctc))
    vocabulary, ctc_tokenizer = directory / CTC_TOKENIZER_FILE, None
    notes: tuple[str, ...] = ()
    if not ctc:
        notes = (NO_BRANCH,)
    elif not vocabulary.is_file():
        notes = (NO_VOCABULARY,)
    else:
        ctc_tokenizer = RankedBPE(vocabulary)
        assert config.ctc is not None
        if len(ctc_tokenizer) > config.ctc.vocab_size:
            raise CheckpointError(f"{vocabulary}: {len(ctc_tokenizer)} tokens; the model has {config.ctc.vocab_size}")
    tokenizer = _tokenizer(folder, config)
    return Checkpoint(config, True, source, tokenizer, _stop(text, tokenizer, config), ctc_tokenizer, notes)


def _language_model(directory: Path, settings: Values) -> Path:
    """The folder inside a model's that has the language model's configuration and tokenizer."""
    named = PurePosixPath(settings.inner("llm_conf").text("init_param_path", "Qwen3-0.6B")).name
    if named and (directory / named / CONFIG_FILE).is_file():
        return directory / named
    found = sorted(path.parent for path in directory.glob(f"*/{CONFIG_FILE}"))
    if len(found) != 1:
        raise CheckpointError(
            f"{directory}: {named or 'Qwen3-0.6B'}/{CONFIG_FILE}, the language model's configuration, is missing"
        )
    return found[0]


def _tokenizer(folder: Path, config: NanoConfig) -> QwenTokenizer:
    tokenizer, size = QwenTokenizer(folder), config.language_model.vocab_size
    if len(tokenizer) > size:
        raise CheckpointError(f"{folder}: the vocabulary has {len(tokenizer)} tokens, the model {size}")
    for name in PROMPT_TOKENS:
        tokenizer.special(name)
    return tokenizer


def _stop(settings: Values, tokenizer: QwenTokenizer, config: NanoConfig) -> tuple[int, ...]:
    key, last = "eos_token_id", config.language_model.vocab_size - 1
    if key not in settings:
        return (tokenizer.special(END),)
    if settings.is_list(key):
        several = settings.integers(key, None, 0, last)
        if not several:
            raise settings.wrong(key, "a list with at least one token")
        return several
    return (settings.integer(key, None, 0, last),)


def load_network(checkpoint: Checkpoint, device: torch.device, compute_type: ComputeType) -> Nano:
    """The network of a folder, ready for inference.

    Raises:
        CheckpointError: when the weights are damaged or do not fit the configuration.
        ConfigError: for a compute type that the device or the model does not have.
    """
    if compute_type is ComputeType.FLOAT16:
        raise ConfigError("compute type float16: this model's vectors are too large for it; use bfloat16 or float32")
    config, source, upstream = checkpoint.config, checkpoint.source, checkpoint.upstream
    table = weight_table(config, upstream=upstream)
    check_shapes(source, table.shapes, [f"{head_name(upstream=upstream)}.weight"])
    _check_head(source, config, upstream)
    if checkpoint.ctc_tokenizer is None and config.ctc is not None:  # nothing would read it
        config = replace(config, ctc=None)
        table = weight_table(config, upstream=upstream)
    with only_shapes():
        network = Nano(config)
    # int4 is asked for where memory is short.
    frames = ComputeType.INT8 if compute_type is ComputeType.INT4 else compute_type
    # What works on all frames at once is as fast in bfloat16 as in int8, where the hardware has it.
    if compute_type is ComputeType.INT8 and bfloat16_is_fast(device):
        frames = ComputeType.BFLOAT16
    assemble(
        network,
        source,
        table.recipes,
        device,
        lambda name: compute_type if name.startswith("language_model.") else frames,
    )
    network.language_model.cache_dtype = cache_dtype(compute_type, device)
    return network


def _check_head(source: WeightSource, config: NanoConfig, upstream: bool) -> None:
    """A stored projection that differs from the embedding although it is to be the same would be silently wrong."""
    head, embedding = f"{head_name(upstream=upstream)}.weight", f"{embedding_name(upstream=upstream)}.weight"
    if not config.language_model.tied or head not in source.shapes:
        return
    if source.shapes[head] != source.shapes[embedding] or not torch.equal(source.read(head), source.read(embedding)):
        raise CheckpointError(f"{source.where}: {head} differs from {embedding}, but the configuration ties them")
