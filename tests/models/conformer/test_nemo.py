"""`.nemo` archives: read as they are, never run, never written anywhere; what is wrong with one is said in a line."""

import io
import os
import pickle
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from fun_asr.errors import CheckpointError
from fun_asr.models.conformer.recogniser import load
from fun_asr.models.registry import identify
from fun_asr.options import ModelOptions, TranscriptionOptions
from tests.models.conformer import archives
from tests.models.conformer.conftest import Published
from tests.models.reference import clips, segments

RAW = TranscriptionOptions(itn=False, punctuation=False)
FUZZED = int(os.environ.get("FUZZ_CASES", "150"))


def options(path: Path) -> ModelOptions:
    return ModelOptions(directory=path, device="cpu", compute_type="float32")


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as failure:
        load(options(path))
    message = str(failure.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_says_what_the_folder_says(published: Published, tmp_path: Path, mode: str) -> None:
    path = archives.write(tmp_path / "model.nemo", archives.parts(published), mode)
    assert identify(path).name == identify(tmp_path).name == "conformer"
    waves = clips()[:3]
    folder = load(options(published.directory)).recognise(segments(waves), [None] * 3, RAW)
    for place in (path, tmp_path):
        assert load(options(place)).recognise(segments(waves), [None] * 3, RAW) == folder
    assert all(segment.text for segment in folder)
    assert sorted(os.listdir(tmp_path)) == ["model.nemo"]


def test_a_hybrid_model_decodes_with_its_transducer_or_with_ctc(
    published_ctc: Published, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.models.conformer.conftest import publish

    tdt = publish("tdt", tmp_path_factory.mktemp("hybrid"))
    state = archives.state_dict(tdt)
    # One encoder, both heads.
    encoder = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    ctc = archives.state_dict(published_ctc, "ctc_decoder")
    state = encoder | {name: t for name, t in ctc.items() if name.startswith(("encoder.", "ctc_decoder."))}
    members = archives.parts(tdt)
    config = archives.config(tdt) | {"aux_ctc": {"ctc_loss_weight": 0.3}}
    weights = io.BytesIO()
    torch.save(state, weights)
    members |= {"./model_config.yaml": yaml.safe_dump(config).encode(), "./model_weights.ckpt": weights.getvalue()}
    recogniser = load(options(archives.write(tmp_path / "hybrid.nemo", members)))
    wave = clips()[1]
    alone = load(options(published_ctc.directory)).recognise(segments([wave]), [None], RAW)[0]
    by_ctc = recogniser.recognise(
        segments([wave]), [None], TranscriptionOptions(itn=False, punctuation=False, decoding="ctc")
    )[0]
    assert by_ctc.text == alone.text
    assert recogniser.recognise(segments([wave]), [None], RAW)[0].text != alone.text


@pytest.fixture(scope="module")
def members(published_ctc: Published) -> dict[str, bytes]:
    return archives.parts(published_ctc)


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../outside.txt", tarfile.REGTYPE, ""),
        ("./inside/../../outside.txt", tarfile.REGTYPE, ""),
        ("/outside.txt", tarfile.REGTYPE, ""),
        ("..\\outside.txt", tarfile.REGTYPE, ""),
        ("./link", tarfile.SYMTYPE, "/etc/passwd"),
        ("./hard", tarfile.LNKTYPE, "./model_config.yaml"),
        ("./device", tarfile.CHRTYPE, ""),
        ("./pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_members_that_are_no_files_of_the_archive_are_refused(
    members: dict[str, bytes], tmp_path: Path, name: str, kind: bytes, target: str
) -> None:
    path = archives.write(tmp_path / "model.nemo", members)
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    assert "nothing was read" in refused(path)
    assert os.listdir(tmp_path) == ["model.nemo"]


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_something_does_not(members: dict[str, bytes], tmp_path: Path) -> None:
    written = tmp_path / "written-by-a-pickle"
    weights = io.BytesIO()
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"encoder.weight": _Runs(written)}))
    path = archives.write(tmp_path / "model.nemo", members | {"./model_weights.ckpt": weights.getvalue()})
    assert "mkdir" in refused(path)
    assert not written.exists()


@pytest.mark.parametrize("lost", ["./model_config.yaml", "./model_weights.ckpt", "./1f3a_tokenizer.model"])
def test_a_missing_member_is_named(members: dict[str, bytes], tmp_path: Path, lost: str) -> None:
    rest = {name: data for name, data in members.items() if name != lost}
    message = refused(archives.write(tmp_path / "model.nemo", rest))
    assert "SentencePiece" in message if "tokenizer" in lost else lost[2:] in message


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("encoder", "n_layers", 2**40, "n_layers"),
        ("encoder", "d_model", 2**40, "d_model"),
        ("encoder", "subsampling_conv_channels", 2**40, "subsampling_conv_channels"),
        ("encoder", "n_layers", 200, "configuration asks for"),
        ("encoder", "d_model", 128, "shape"),
        ("encoder", "n_heads", 7, "heads"),
        ("encoder", "conv_norm_type", "layer_norm", "conv_norm_type"),
        ("encoder", "att_context_style", "chunked_limited", "att_context_style"),
        ("encoder", "d_model", "wide", "d_model"),
        ("preprocessor", "normalize", "all_features", "normalize"),
        ("decoder", "_target_", "nemo.collections.asr.modules.TransformerDecoder", "not supported"),
    ],
)
def test_a_configuration_that_is_not_built_here_is_refused_by_key(
    published_ctc: Published, members: dict[str, bytes], tmp_path: Path, part: str, key: str, value: object, said: str
) -> None:
    config = archives.config(published_ctc)
    config[part][key] = value
    changed = members | {"./model_config.yaml": yaml.safe_dump(config).encode()}
    assert said in refused(archives.write(tmp_path / "model.nemo", changed))


def test_aliases_that_would_fill_memory_are_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    changed = members | {"./model_config.yaml": "\n".join(lines).encode()}
    assert "aliases" in refused(archives.write(tmp_path / "model.nemo", changed))


def test_local_attention_is_that_of_a_band(published_ctc: Published, members: dict[str, bytes], tmp_path: Path) -> None:
    config = archives.config(published_ctc)
    config["encoder"] |= {"self_attention_model": "rel_pos_local_attn", "att_context_size": [16, 8]}
    changed = members | {"./model_config.yaml": yaml.safe_dump(config).encode()}
    recogniser = load(options(archives.write(tmp_path / "model.nemo", changed)))
    assert all(layer.self_attn.band == (16, 8) for layer in recogniser.network.encoder.layers)
    assert recogniser.recognise(segments(clips()[1:2]), [None], RAW)[0].text


def test_damaged_archives_are_refused_or_read_and_nothing_else(members: dict[str, bytes], tmp_path: Path) -> None:
    """Flipped bytes and cut files; each case ends in a model or in one line."""
    whole = archives.write(tmp_path / "whole.nemo", members).read_bytes()
    weights_at = whole.index(b"PK\x03\x04")
    small = [i for i in range(weights_at + 3000)] + [i for i in range(len(whole) - 40000, len(whole))]
    generator = random.Random(14)
    path = tmp_path / "damaged.nemo"
    refusals = 0
    for _ in range(FUZZED):
        data = bytearray(whole)
        if generator.random() < 0.3:
            del data[generator.randrange(len(data)) :]
        else:
            # The parts with structure; most of the file is numbers.
            for _ in range(generator.choice((1, 1, 4))):
                data[generator.choice(small)] = generator.randrange(256)
        path.write_bytes(data)
        try:
            load(options(path))
        except CheckpointError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refusals += 1
    assert refusals > FUZZED / 4
