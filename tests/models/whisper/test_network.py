"""Features, encoder and decoder against transformers, and the names and shapes of the published sizes."""

import numpy as np
import pytest
import torch
from transformers import WhisperConfig as Reference
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from fun_asr.models.whisper.checkpoint import open_checkpoint
from fun_asr.models.whisper.config import WhisperConfig, from_transformers
from fun_asr.models.whisper.features import padded_log_mel
from fun_asr.models.whisper.load import load_network
from fun_asr.models.whisper.names import TRANSFORMERS
from fun_asr.models.whisper.network import Whisper
from fun_asr.weights.load import only_shapes
from fun_asr.weights.precision import ComputeType
from tests.models.whisper.conftest import TEXT_TOKENS, WINDOW, random_whisper, save_transformers

CPU = torch.device("cpu")
# width, layers, heads, decoder layers, mel bins, vocabulary
PUBLISHED = {
    "tiny": (384, 4, 6, 4, 80, 51865),
    "tiny.en": (384, 4, 6, 4, 80, 51864),
    "base": (512, 6, 8, 6, 80, 51865),
    "small": (768, 12, 12, 12, 80, 51865),
    "medium": (1024, 24, 16, 24, 80, 51865),
    "medium.en": (1024, 24, 16, 24, 80, 51864),
    "large-v2": (1280, 32, 20, 32, 80, 51865),
    "large-v3": (1280, 32, 20, 32, 128, 51866),
    "large-v3-turbo": (1280, 32, 20, 4, 128, 51866),
    "distil-large-v3.5": (1280, 32, 20, 2, 128, 51866),
    "distil-small.en": (768, 12, 12, 4, 80, 51864),
    "distil-medium.en": (1024, 24, 16, 2, 80, 51864),
}


def reference_config(name: str) -> Reference:
    dim, layers, heads, decoder_layers, n_mels, vocabulary = PUBLISHED[name]
    return Reference(
        d_model=dim, encoder_layers=layers, decoder_layers=decoder_layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * dim, decoder_ffn_dim=4 * dim, num_mel_bins=n_mels,
        vocab_size=vocabulary,
    )  # fmt: skip


@pytest.mark.parametrize("n_mels", [80, 128])
def test_features_equal_transformers(clips: list[np.ndarray], n_mels: int) -> None:
    full = np.concatenate(clips)[: WINDOW * 160]
    segments = [*clips, full, clips[0][:100], np.zeros(16_000, np.float32)]
    ours = padded_log_mel(segments, n_mels=n_mels, frames=WINDOW)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(segments, sampling_rate=16_000, return_tensors="pt")
    assert ours.shape == (len(segments), n_mels, WINDOW)
    torch.testing.assert_close(ours, theirs.input_features, atol=1e-4, rtol=0)


def test_a_segment_longer_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 480000 samples"):
        padded_log_mel([np.zeros(480_001, np.float32)], n_mels=80, frames=WINDOW)


@pytest.mark.parametrize(("n_mels", "decoder_layers"), [(80, 2), (128, 4)])
def test_encoder_and_logits_equal_transformers(
    clips: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory, n_mels: int, decoder_layers: int
) -> None:
    reference = random_whisper(n_mels=n_mels, decoder_layers=decoder_layers, seed=n_mels)
    network = loaded(reference, tmp_path_factory)
    features = padded_log_mel(clips[:3], n_mels=n_mels, frames=WINDOW)
    tokens = torch.randint(0, TEXT_TOKENS, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = reference(input_features=features, decoder_input_ids=tokens)
        encoded = network.encode(features, torch.full((3,), WINDOW))
        logits = network.decoder.embedding.logits(network.decoder(tokens, encoded))
        cache = network.decoder.start(encoded, None)
        steps = [network.decoder.step(tokens[:, :3], cache)]
        steps += [network.decoder.step(tokens[:, i : i + 1], cache) for i in range(3, 9)]
    torch.testing.assert_close(encoded, theirs.encoder_last_hidden_state, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, theirs.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.stack(steps, dim=1), theirs.logits[:, 2:], atol=1e-4, rtol=0)


def loaded(reference: WhisperForConditionalGeneration, folders: pytest.TempPathFactory) -> Whisper:
    directory = save_transformers(reference, folders.mktemp("published"))
    return load_network(open_checkpoint(directory), CPU, ComputeType.FLOAT32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_of_the_published_sizes_are_those_of_transformers(name: str) -> None:
    published = reference_config(name)
    with torch.device("meta"):
        reference = WhisperForConditionalGeneration(published)
    theirs = {key: tensor.shape for key, tensor in reference.state_dict().items() if key != "proj_out.weight"}
    config = from_transformers(published.to_dict())
    with only_shapes():
        network = Whisper(config)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    shapes["encoder.positions"] = network.encoder.positions.shape
    names = TRANSFORMERS.names(config)
    assert set(names) == set(shapes)
    found = {}
    for ours, parts in names.items():
        rows, *rest = shapes[ours]
        for part in parts:
            if part is not None:
                found[part] = torch.Size([rows // len(parts), *rest])
    assert found == theirs
    assert config.multilingual == (not name.endswith(".en"))


def test_the_defaults_are_whisper_base() -> None:
    assert from_transformers(reference_config("base").to_dict()) == WhisperConfig()
