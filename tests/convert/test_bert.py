"""Import of BERT weights: the kept layers and pieces compute what they computed, damage is named."""

import json
import string
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from fun_asr.cli import main
from fun_asr.convert.bert import punctuation_start
from fun_asr.errors import CheckpointError, ConfigError
from fun_asr.punctuation.network import load_punctuation
from fun_asr.punctuation.wordpiece import SPECIAL_PIECES, WordPieceTokenizer

LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
PIECES = [*SPECIAL_PIECES, "[unused0]", *LETTERS, "the", "cat", "dog", "東", "zebra"]
COUNTS = {"the": 9, "cats": 5, "dog": 1}
SIZES = {"num_layers": 1, "num_pieces": len(SPECIAL_PIECES) + 52 + 2, "max_positions": 12}


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "bert"
    directory.mkdir()
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        layer_norm_eps=1e-12,
    )
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False)
    save_file(model.state_dict(), directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.to_dict()))
    (directory / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return directory


def test_the_commonest_pieces_and_all_letters_are_kept(weights_dir: Path) -> None:
    model = punctuation_start(weights_dir, COUNTS, **SIZES)
    assert set(model.pieces) == {*SPECIAL_PIECES, *LETTERS, "the", "cat"}
    assert WordPieceTokenizer(model.pieces).split(["dogs"])[0] == [
        model.pieces.index(p) for p in ("d", "##o", "##g", "##s")
    ]


@torch.inference_mode()
def test_kept_layers_compute_what_they_computed(weights_dir: Path) -> None:
    model = punctuation_start(weights_dir, COUNTS, **SIZES)
    words = ["[CLS]", "the", "cat", "##s", "[SEP]"]
    theirs = BertModel.from_pretrained(weights_dir, add_pooling_layer=False, num_hidden_layers=1).eval()
    expected = theirs(input_ids=torch.tensor([[PIECES.index(word) for word in words]])).last_hidden_state
    numbers = torch.tensor([[model.pieces.index(word) for word in words]])
    found = model.net.encoder(numbers, torch.arange(5)[None], torch.zeros(1, 5, dtype=torch.int64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [{"num_layers": 3}, {"num_pieces": 999}, {"max_positions": 21}])
def test_more_than_there_is_is_refused(weights_dir: Path, wanted: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=str(weights_dir)):
        punctuation_start(weights_dir, COUNTS, **{**SIZES, **wanted})


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_damage_is_named(weights_dir: Path, name: str) -> None:
    (weights_dir / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=str(weights_dir)):
        punctuation_start(weights_dir, COUNTS, **SIZES)
    (weights_dir / name).unlink()
    with pytest.raises(CheckpointError, match=str(weights_dir)):
        punctuation_start(weights_dir, COUNTS, **SIZES)


def test_the_command_counts_the_training_texts_alone(weights_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("The cats.\n" + "Zebra zebra zebra.\n", encoding="utf-8")
    values = {"texts": [{"path": "book.txt", "test": ["2-2"]}], "output_dir": "run", "init": "start"}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    options = ["--config", tmp_path / "train.yaml", "--layers", 2, "--pieces", SIZES["num_pieces"], "--positions", 20]
    arguments = ["convert", "bert", weights_dir, tmp_path / "start", *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    model = load_punctuation(tmp_path / "start")
    assert {"the", "cat"} <= set(model.pieces)
    assert "zebra" not in model.pieces
    assert len(model.net.encoder.blocks) == 2
