"""What several test folders share: a tiny model directory with random weights."""

import runpy
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from fun_asr.audio.vad import SpeechDetector
from fun_asr.layers.decoder import DecoderConfig
from fun_asr.layers.encoder import EncoderConfig
from fun_asr.models.fun_asr.config import CTCConfig, ModelConfig
from fun_asr.models.fun_asr.network import FunASR
from fun_asr.punctuation.bert import BertConfig
from fun_asr.punctuation.network import PunctuationConfig, PunctuationModel, PunctuationNet, save_punctuation
from fun_asr.punctuation.wordpiece import SPECIAL_PIECES
from fun_asr.text.tokenizer import train_ctc_tokenizer
from fun_asr.weights.directory import CTC_TOKENIZER_FILE, TOKENIZER_FILE, VAD_FILE, save_model

SPECIAL_TOKENS = ["endoftext", "startoftranscript", "en", "de", "zh", "transcribe", "notimestamps"]
SENTENCES = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen jugs", "how vexing is that"]


def pytest_report_header() -> str:
    """What multiplies here: some tests are skipped, and rounding differs, by processor."""
    processor = runpy.run_path(str(Path(__file__).parent.parent / "bin/lib/processor.py"))["processor"]
    return f"processor: {processor()}"


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few thousand random weights that knows en, de and zh, and whose CTC head hears something anywhere.

    Its texts are strings of random letters that depend on the audio. Its detector takes any sound for speech.
    """
    directory = tmp_path_factory.mktemp("tiny-model")
    letters = {letter: number for number, letter in enumerate([*string.ascii_lowercase, "Ġ"])}
    tokenizer = HuggingFaceTokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in SPECIAL_TOKENS])
    tokenizer.save(str(directory / TOKENIZER_FILE))
    (directory / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    pieces = train_ctc_tokenizer(directory / "sentences.txt", directory / CTC_TOKENIZER_FILE, 32)
    config = ModelConfig(
        encoder=EncoderConfig(dim=16, num_layers=1, num_heads=2, ffn_dim=32, conv_dim=16, conv_kernel=7),
        ctc=CTCConfig(vocab_size=pieces.vocab_size, hidden_dim=16),
        decoder=DecoderConfig(
            vocab_size=tokenizer.get_vocab_size(), dim=16, num_layers=2, num_heads=2, ffn_dim=32, num_experts=4,
            expert_dim=16, max_tokens=24,
        ),
    )  # fmt: skip
    torch.manual_seed(1)
    model = FunASR(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        # Tied to the output, large embeddings would only repeat the last token.
        model.decoder.embedding.weight.mul_(0.2)
        model.ctc.vocabulary.bias[pieces.blank] = -100.0
    save_model(directory, config, model.state_dict(), [], int8=False)
    save_file(loudness_detector(), directory / VAD_FILE)
    return directory


def loudness_detector() -> dict[str, torch.Tensor]:
    """Weights of a speech detector for which whatever is louder than a thousandth of full scale is speech."""
    detector = SpeechDetector()
    basis = torch.fft.rfft(torch.eye(256))  # [sample, frequency]
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.zero_()
        detector.stft.weight.copy_(torch.cat([basis.real, basis.imag], dim=1).T[:, None])
        for layer in (detector.encoder[0], detector.encoder[2], detector.encoder[4], detector.encoder[6]):
            assert isinstance(layer, torch.nn.Conv1d)
            layer.weight[0, 0 if layer.in_channels < 129 else slice(None)] = 1.0
        width = detector.memory.hidden_size
        # Gates: always in and out, nothing remembered; the cell is the sum of all magnitudes.
        detector.memory.bias_ih_l0.copy_(torch.tensor([20.0, -20.0, 0.0, 20.0]).repeat_interleave(width))
        detector.memory.weight_ih_l0[2 * width, 0] = 0.01
        detector.output.weight[0, 0] = 40.0
        detector.output.bias.fill_(-10.0)
    return detector.state_dict()


@pytest.fixture(scope="session")
def tiny_punctuation_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A punctuation model that has learnt nothing; its pieces are letters, digits and a few signs."""
    directory = tmp_path_factory.mktemp("tiny-punctuation")
    characters = [*string.ascii_lowercase, *string.digits, *".'-$"]
    pieces = [*SPECIAL_PIECES, *characters, *(f"##{character}" for character in characters)]
    encoder = BertConfig(vocab_size=len(pieces), dim=32, num_layers=2, num_heads=2, ffn_dim=64, max_positions=64)
    torch.manual_seed(1)
    net = PunctuationNet(PunctuationConfig(encoder=encoder))
    save_punctuation(directory, PunctuationModel(net, pieces, {}), int8=False)
    return directory
