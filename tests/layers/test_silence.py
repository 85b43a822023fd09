"""Frames of silence stand for the padding of an utterance to the longest input."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fun_asr.audio.features import log_mel
from fun_asr.decoding.attention_times import attention_weights
from fun_asr.decoding.generate import GenerateOptions, generate
from fun_asr.errors import ConfigError
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.layers.silence import Silence
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.load import load_config, load_network
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.text.tokenizer import Tokenizer
from fun_asr.weights.directory import TOKENIZER_FILE
from fun_asr.weights.precision import ComputeType

WINDOW = 60


def models(*silence_frames: int, conv_kernel: int = 5) -> list[FunASR]:
    """The same random weights with so many frames of silence each."""
    torch.manual_seed(1)
    found: list[FunASR] = []
    for count in silence_frames:
        config = ModelConfig(
            encoder=EncoderConfig(
                n_mels=16, dim=32, num_layers=2, num_heads=4, ffn_dim=64, conv_dim=24, conv_kernel=conv_kernel,
                max_frames=WINDOW, silence_frames=count,
            ),
            ctc=CTCConfig(vocab_size=12, hidden_dim=32),
            decoder=DecoderConfig(
                vocab_size=60, dim=32, num_layers=2, num_heads=4, ffn_dim=64, num_experts=4, expert_dim=16,
                max_tokens=32,
            ),
        )  # fmt: skip
        model = FunASR(config).eval()
        if found:
            model.load_state_dict(found[0].state_dict())
        else:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        found.append(model)
    return found


def spectrogram(frames: int) -> Tensor:
    """Log-mel `[1, 16, frames]` between its floor, 0, and 2 above it; the end is silent, as in most recordings."""
    features = 2 * torch.rand(1, 16, frames)
    features[0, 3, 1] = 2.0
    features[..., max(2, frames - 4) :] = 0.0
    return features


@pytest.mark.parametrize("frames", [80, 81, 118])
def test_one_for_each_frame_of_the_rest_is_the_padded_window(frames: int) -> None:
    sound = -(-frames // 2)
    plain, silent = models(0, WINDOW - sound)
    features, tokens = spectrogram(frames), torch.randint(0, 60, (1, 6))
    with torch.no_grad():
        padded, _ = plain.encode(F.pad(features, (0, 2 * WINDOW - frames)), torch.tensor([2 * WINDOW]))
        expected = plain.decoder(tokens, padded)
        encoded, lengths = silent.encode(features, torch.tensor([frames]))
        hidden = silent.decoder(tokens, encoded, silent.decoder.memory_mask(lengths, encoded.shape[1]))
    assert lengths.tolist() == [WINDOW]
    torch.testing.assert_close(encoded, padded, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=0)


def test_a_few_weigh_as_much_as_all_that_they_stand_for() -> None:
    silence = Silence(frames=4, window=1500)
    lengths = torch.tensor([104, 504, 1503])
    bias = silence.bias(lengths, 1503)
    assert bias.exp().sum(dim=1).tolist() == pytest.approx([1500.0] * 3, rel=1e-4)
    assert bias[0, :100].eq(0).all() and bias[0, 104:].isinf().all()
    assert silence.places(lengths)[0].tolist() == [275, 625, 975, 1325]


def test_nothing_is_silent_in_a_full_window() -> None:
    plain, silent = models(0, 4, conv_kernel=0)
    features, tokens = spectrogram(2 * WINDOW), torch.randint(0, 60, (1, 6))
    with torch.no_grad():
        expected, _ = plain.encode(features, torch.tensor([2 * WINDOW]))
        encoded, lengths = silent.encode(features, torch.tensor([2 * WINDOW]))
        hidden = silent.decoder(tokens, encoded, silent.decoder.memory_mask(lengths, encoded.shape[1]))
        expected_hidden = plain.decoder(tokens, expected)
    torch.testing.assert_close(encoded[:, :WINDOW], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden, expected_hidden, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frames", [3, 4, 57, 100])
def test_batch_equals_single(frames: int, dtype: torch.dtype) -> None:
    (model,) = models(3)
    model = model.to(dtype)
    features = torch.cat([spectrogram(110)] * 3)
    lengths = torch.tensor([110, frames, 81])
    for row, length in zip(features, lengths.tolist(), strict=True):
        row[:, length:] = 0
    tokens = torch.randint(0, 60, (3, 6))
    tolerance = 1e-5 if dtype is torch.float32 else 0.1
    with torch.inference_mode():
        encoded, counts = model.encode(features, lengths)
        log_probs, ctc_counts = model.ctc(encoded, counts)
        hidden = model.decoder(tokens, encoded, model.decoder.memory_mask(counts, encoded.shape[1]))
        alone, count = model.encode(features[1:2, :, :frames], lengths[1:2])
        alone_log_probs, ctc_count = model.ctc(alone, count)
        alone_hidden = model.decoder(tokens[1:2], alone, model.decoder.memory_mask(count, alone.shape[1]))
    sound = -(-frames // 2)
    assert counts[1] == count[0] == sound + 3 == alone.shape[1]
    assert ctc_counts[1] == ctc_count[0] == -(-sound // 2) == alone_log_probs.shape[1]
    assert not encoded[1, sound + 3 :].any()
    torch.testing.assert_close(encoded[1, : sound + 3], alone[0], atol=tolerance, rtol=0)
    torch.testing.assert_close(log_probs[1, : ctc_count[0]], alone_log_probs[0], atol=tolerance, rtol=0)
    torch.testing.assert_close(hidden[1], alone_hidden[0], atol=tolerance, rtol=0)


def test_the_ctc_head_hears_the_sound_alone() -> None:
    plain, silent = models(0, 5)
    features = spectrogram(90)
    with torch.no_grad():
        encoded, lengths = silent.encode(features, torch.tensor([90]))
        log_probs, counts = silent.ctc(encoded, lengths)
        expected, expected_counts = plain.ctc(encoded[:, :45], torch.tensor([45]))
    assert counts.tolist() == expected_counts.tolist()
    torch.testing.assert_close(log_probs, expected)


def test_a_search_step_by_step_reads_the_silence_like_a_whole_sequence(tiny_model_dir: Path) -> None:
    config = load_config(tiny_model_dir)
    tokenizer = Tokenizer(tiny_model_dir / TOKENIZER_FILE)
    silent = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, silence_frames=4))
    model = FunASR(silent).eval()
    model.load_state_dict(load_network(tiny_model_dir, torch.device("cpu"), ComputeType.FLOAT32).state_dict())
    waves = [np.random.default_rng(i).normal(size=n).astype(np.float32) / 9 for i, n in enumerate((16_000, 9_000))]
    with torch.inference_mode():
        encoded, lengths = model.encode(*log_mel(waves))
        found = generate(model.decoder, encoded, lengths, tokenizer, ["en", "de"], GenerateOptions())
        alone = generate(model.decoder, encoded[1:, :33], lengths[1:], tokenizer, ["de"], GenerateOptions())
        mask = model.decoder.memory_mask(lengths, encoded.shape[1])
        for row, hypothesis in enumerate(found):
            prompt = tokenizer.prompt(hypothesis.language)
            tokens = torch.tensor([prompt + hypothesis.tokens])
            assert mask is not None
            hidden = model.decoder(tokens, encoded[row : row + 1], mask[row : row + 1])
            logits = model.decoder.embedding.logits(hidden).float()[0, len(prompt) - 1 : -1, : tokenizer.eot]
            assert logits.argmax(dim=-1).tolist() == hypothesis.tokens
        weights = attention_weights(model.decoder, tokens, encoded[1:], mask[1:], [(0, 0), (1, 1)])
    assert lengths.tolist() == [54, 33]
    assert found[1].tokens == alone[0].tokens
    assert weights.sum(dim=-1).allclose(torch.ones(1))
    assert not weights[..., 33:].any()


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.silence_frames must be at least 0"):
        ModelConfig(encoder=EncoderConfig(silence_frames=-1))
