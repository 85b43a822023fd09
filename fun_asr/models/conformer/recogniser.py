"""Parakeet models: folders of transformers and `.nemo` archives, loaded to recognise segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fun_asr.audio.conformer_features import normalised_log_mel
from fun_asr.audio.decode import SAMPLE_RATE
from fun_asr.decoding import transducer
from fun_asr.decoding.frames import Emission
from fun_asr.errors import CheckpointError
from fun_asr.layers.conformer import ready_for_inference
from fun_asr.models.conformer.config import ConformerConfig, from_nemo, from_transformers
from fun_asr.models.conformer.nemo import open_nemo
from fun_asr.models.conformer.network import Conformer
from fun_asr.models.conformer.weights import from_nemo_name, published_shapes, recipes, unused
from fun_asr.models.cost import Cost, count_cost
from fun_asr.models.frames import SEGMENT_SECONDS, FrameRecogniser, Samples
from fun_asr.models.published import Values
from fun_asr.models.runs import of_few_lengths
from fun_asr.options import ModelOptions
from fun_asr.text.pieces import Pieces, json_pieces, sentencepiece_pieces
from fun_asr.weights.assemble import assemble, check_shapes, frame_compute_type
from fun_asr.weights.load import describe_network, only_shapes
from fun_asr.weights.precision import ComputeType, resolve_device
from fun_asr.weights.sources import WeightSource, open_safetensors, read_json
from fun_asr.weights.torch_archive import open_torch_archive

__all__ = ["ConformerRecogniser", "describe", "is_own", "load", "open_folder"]

FAMILY = "conformer"
FRAMES_APART = 32  # frames of 10 ms by which lengths of runs differ at least
CONFIG_FILE, FRONT_END_FILE, TOKENIZER_FILE = "config.json", "preprocessor_config.json", "tokenizer.json"
EUROPEAN = (
    "bg", "hr", "cs", "da", "nl", "en", "et", "fi", "fr", "de", "el", "hu", "it", "lv", "lt", "mt", "pl", "pt", "ro",
    "sk", "sl", "es", "sv", "ru", "uk",
)  # fmt: skip
"""Languages of parakeet-tdt-0.6b-v3 (its model card), whose vocabulary alone has tokens of languages."""


class ConformerRecogniser(FrameRecogniser):
    """A FastConformer that recognises segments.

    Arguments:
        network: ready for inference.
        pieces: its vocabulary.
        device: where it computes.
    """

    def __init__(self, network: Conformer, pieces: Pieces, device: torch.device) -> None:
        config = network.config
        super().__init__(
            pieces,
            config.blank,
            config.frame,
            device,
            describe_network(network, FAMILY),
            ("en",) if pieces.find("<|de|>") is None else EUROPEAN,
            has_ctc=config.ctc,
            has_transducer=config.kind != "ctc",
        )
        self.network = network

    def encode(self, waves: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """The encoder's frames of some waves, `[B, L, D]`, and how many count of each."""
        config = self.network.config
        features, lengths_B = normalised_log_mel(
            waves, n_mels=config.encoder.n_mels, preemphasis=config.preemphasis, device=self._device
        )
        encoded, lengths_B = self.network.encoder(of_few_lengths(features, FRAMES_APART, dim=1), lengths_B)
        return encoded[:, : int(lengths_B.max())], lengths_B

    def ctc_logits(self, encoded: Tensor) -> Tensor:
        """Of the CTC head, `[B, L, C]`."""
        assert self.network.ctc_head is not None
        logits: Tensor = self.network.ctc_head(encoded)
        return logits

    def transduce(self, encoded: Tensor, lengths_B: Tensor) -> list[list[Emission]]:
        """What the transducer writes of encoder frames."""
        network, config = self.network.transducer, self.network.config
        assert network is not None
        return transducer.greedy(
            network,
            network.encoder_projection(encoded),
            lengths_B,
            blank=config.blank,
            vocab_size=config.vocab_size,
            durations=config.durations,
            max_symbols=config.max_symbols,
        )


def describe(path: Path, tokens_per_second: float) -> Cost:
    """What a published model costs.

    Arguments:
        path: what `load` takes.
        tokens_per_second: that a transducer writes.

    Raises:
        CheckpointError: when a file is missing or damaged.
    """
    config = _config(_model_file(path))
    with only_shapes():
        network = Conformer(config)
        ready_for_inference(network)
    network.to("meta")
    mels = round(SEGMENT_SECONDS * SAMPLE_RATE / config.frame) << config.encoder.halvings
    features = torch.empty(1, mels, config.encoder.n_mels, device="meta")
    encoded = torch.empty(1, mels >> config.encoder.halvings, config.encoder.dim, device="meta")
    runs: dict[str, Callable[[], object]] = {
        "encoder": lambda: network.encoder(features, torch.tensor([mels])),
    }
    head, written = network.ctc_head, network.transducer
    if head is not None:
        runs["ctc_head"] = lambda: head(encoded)
    if written is not None:

        def transduce() -> None:
            projected = written.encoder_projection(encoded)
            tokens = torch.zeros(round(tokens_per_second * SEGMENT_SECONDS), dtype=torch.int64, device="meta")
            predicted, _ = written.predict(tokens, written.start(len(tokens)))
            # At each frame once, and once more for each token.
            written.joint(projected[0], projected[0])
            written.joint(predicted, predicted)

        runs["transducer"] = transduce
    return count_cost(network, FAMILY, runs, segment_seconds=SEGMENT_SECONDS, tokens_per_second=tokens_per_second)


def is_own(path: Path) -> bool:
    """Whether a path is a `.nemo` archive, or a folder with one such."""
    if path.is_file():
        return path.suffix == ".nemo"
    return not (path / CONFIG_FILE).exists() and len(list(path.glob("*.nemo"))) == 1


def load(options: ModelOptions) -> ConformerRecogniser:
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
    path = _model_file(options.directory)
    if path.suffix == ".nemo":
        return _from_nemo(path, device, compute_type)
    config, pieces, source = open_folder(path)
    return _loaded(config, source, pieces, device, compute_type)


def _model_file(path: Path) -> Path:
    """The archive of a folder that has nothing else, or the path itself."""
    if path.is_dir() and not (path / CONFIG_FILE).exists():
        return next(iter(path.glob("*.nemo")), path)
    return path


def _config(path: Path) -> ConformerConfig:
    if path.suffix == ".nemo":
        return from_nemo(open_nemo(path).config, f"{path}: model_config.yaml")
    return from_transformers(read_json(path / CONFIG_FILE), str(path / CONFIG_FILE))


def open_folder(directory: Path) -> tuple[ConformerConfig, Pieces, WeightSource]:
    """The sizes, the vocabulary and the weights of a folder of transformers, checked; no weight is read.

    Raises:
        CheckpointError: when a file is missing or damaged, or does not fit the configuration.
    """
    config = _config(directory)
    front_end = directory / FRONT_END_FILE
    if front_end.exists():
        values = Values(read_json(front_end), str(front_end))
        for key, expected in (("n_fft", 512), ("win_length", 400), ("hop_length", 160), ("preemphasis", 0.97)):
            values.fixed(key, expected)
        values.fixed("sampling_rate", 16000)
        values.fixed("feature_size", config.encoder.n_mels)
    pieces = json_pieces(directory / TOKENIZER_FILE)
    source = open_safetensors(directory)
    _check(config, source, pieces, str(directory / TOKENIZER_FILE))
    return config, pieces, source


def _from_nemo(path: Path, device: torch.device, compute_type: ComputeType) -> ConformerRecogniser:
    archive = open_nemo(path)
    config = from_nemo(archive.config, f"{path}: model_config.yaml")
    where = f"{path}: {archive.tokenizer_name}"
    pieces = sentencepiece_pieces(archive.tokenizer, where)
    elements = sum(torch.Size(shape).numel() for shape in published_shapes(config).values())
    # float64 at most, and the front end's filters; names and places take the rest.
    file = archive.weights(8 * elements + 64 * 2**20)
    source = open_torch_archive(file, path, from_nemo_name)
    _check(config, source, pieces, where)
    return _loaded(config, source, pieces, device, compute_type)


def _check(config: ConformerConfig, source: WeightSource, pieces: Pieces, pieces_file: str) -> None:
    if len(pieces) < max(token for token in range(config.vocab_size) if token != config.blank) + 1:
        raise CheckpointError(f"{pieces_file}: {len(pieces)} pieces; the model writes {config.vocab_size - 1}")
    check_shapes(source, published_shapes(config), unused(config))


def _loaded(
    config: ConformerConfig, source: WeightSource, pieces: Pieces, device: torch.device, compute_type: ComputeType
) -> ConformerRecogniser:
    with only_shapes():
        network = Conformer(config)
        ready_for_inference(network)
    assemble(network, source, recipes(config), device, compute_type)
    return ConformerRecogniser(network, pieces, device)
