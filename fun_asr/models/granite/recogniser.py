"""Granite Speech CTC models in folders of transformers, loaded to recognise segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.conformer_features import stacked_log_mel
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding.frames import Emission
from fun_asr.errors import CheckpointError
from fun_asr.layers.conformer import ready_for_inference
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.frames import SEGMENT_SECONDS, FrameRecogniser, Samples
from fun_asr.models.granite.config import GraniteConfig, from_transformers
from fun_asr.models.granite.network import Granite
from fun_asr.models.granite.weights import published_shapes, recipes, unused
from fun_asr.models.published import Values
from fun_asr.models.runs import of_few_lengths
from fun_asr.options import ModelOptions
from fun_asr.text.pieces import Pieces, json_pieces
from fun_asr.weights.assemble import assemble, check_shapes, frame_compute_type
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import resolve_device
from fun_asr.weights.sources import WeightSource, open_safetensors, read_json

__all__ = ["GraniteRecogniser", "describe", "is_own", "load", "open_folder"]

FAMILY = "granite"
FRAMES_APART = 16  # frames of 20 ms by which lengths of runs differ at least
CONFIG_FILE, FRONT_END_FILE, TOKENIZER_FILE = "config.json", "preprocessor_config.json", "tokenizer.json"


class GraniteRecogniser(FrameRecogniser):
    """A Granite Speech model that recognises segments.

    Arguments:
        network: ready for inference.
        pieces: its vocabulary.
        device: where it computes.
    """

    def __init__(self, network: Granite, pieces: Pieces, device: torch.device) -> None:
        config = network.config
        super().__init__(
            pieces,
            config.blank,
            config.frame,
            device,
            describe_network(network, FAMILY),
            ("en",),
            has_ctc=True,
            has_transducer=False,
        )
        self.network = network

    def encode(self, waves: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """The encoder's frames of some waves, `[B, L, D]`, and how many count of each."""
        features, lengths_B = stacked_log_mel(waves, n_mels=self.network.config.n_mels, device=self._device)
        encoded, lengths_B = self.network.encode(of_few_lengths(features, FRAMES_APART, dim=1), lengths_B)
        return encoded[:, : int(lengths_B.max())], lengths_B

    def ctc_logits(self, encoded: Tensor) -> Tensor:
        """Of the CTC head, `[B, L, C]`."""
        return self.network.logits(encoded)

    def transduce(self, encoded: Tensor, lengths_B: Tensor) -> list[list[Emission]]:
        """It has no transducer."""
        raise NotImplementedError


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs; its head writes frames, whatever the tokens.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = from_transformers(read_json(path / CONFIG_FILE), str(path / CONFIG_FILE))
    with only_shapes():
        network = Granite(config)
        ready_for_inference(network)
    network.to("meta")
    frames = round(SEGMENT_SECONDS * SAMPLE_RATE / config.frame) * 4
    features = torch.empty(1, frames, 4 * config.n_mels, device="meta")
    encoded = torch.empty(1, frames // 4, config.dim, device="meta")
    return count_cost(
        network,
        FAMILY,
        {
            "encoder": lambda: network.encode(features, torch.tensor([frames])),
            "ctc": lambda: network.logits(encoded),
        },
        segment_seconds=SEGMENT_SECONDS,
        tokens_per_second=tokens_per_second,
        # The head reads the last frames; the same layer in the middle, where the heads are tied, counts once.
        part_of=lambda name: "ctc" if name.startswith(("out.", "ctc_head.")) else "encoder",
    )


def is_own(path: Path) -> bool:
    """Its folders say what they are in their `config.json`."""
    return False


def open_folder(directory: Path) -> tuple[GraniteConfig, Pieces, WeightSource]:
    """The sizes, the vocabulary and the weights of a folder, checked against each other; no weight is read.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
    """
    config = from_transformers(read_json(directory / CONFIG_FILE), str(directory / CONFIG_FILE))
    front_end = directory / FRONT_END_FILE
    if front_end.exists():
        values = Values(read_json(front_end), str(front_end))
        for key, expected in (("n_fft", 512), ("win_length", 400), ("hop_length", 160), ("delta_win_length", 3)):
            values.fixed(key, expected)
        values.fixed("sampling_rate", 16000)
        values.fixed("logmel_floor_db", 8.0)
        values.fixed("num_mel_bins", config.n_mels)
    pieces = json_pieces(directory / TOKENIZER_FILE)
    if len(pieces) < config.vocab_size:
        raise CheckpointError(
            f"{directory / TOKENIZER_FILE}: {len(pieces)} pieces; the model writes {config.vocab_size}"
        )
    source = open_safetensors(directory)
    check_shapes(source, published_shapes(config), unused(config))
    _check_head(source, config.tied)
    return config, pieces, source


def load(options: ModelOptions) -> GraniteRecogniser:
    """Load a model for inference.

    Arguments:
        options: whose directory is one for which `is_own` holds.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
        ConfigError: for a device or compute type that is not available.
    """
    assert options.directory is not None
    device = resolve_device(options.device)
    compute_type = frame_compute_type(options.compute_type, device)
    config, pieces, source = open_folder(options.directory)
    with only_shapes():
        network = Granite(config)
        ready_for_inference(network)
    assemble(network, source, recipes(config), device, compute_type)
    return GraniteRecogniser(network, pieces, device)


def _check_head(source: WeightSource, tied: bool) -> None:
    """A stored head that differs from the one in the middle although it is to be the same would be silently wrong."""
    for part in ("weight", "bias"):
        theirs, ours = f"ctc_head.{part}", f"encoder.out.{part}"
        if tied and theirs in source.shapes:
            same = source.shapes[theirs] == source.shapes[ours]
            if not same or not torch.equal(source.read(theirs), source.read(ours)):
                raise CheckpointError(f"{source.where}: {theirs} differs from {ours}, but the configuration ties them")
