"""Damaged folders of published models: an error of ours that names the file, or a network; no other exception.

FUZZ_CASES says how many cases each test tries.
"""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fun_asr.errors import CheckpointError, FunASRError
from fun_asr.models.registry import load_recogniser
from fun_asr.options import ModelOptions
from tests.models.conformer.conftest import publish
from tests.models.granite.conftest import publish_granite
from tests.models.whisper.conftest import random_whisper, save_ctranslate2, save_transformers

pytestmark = pytest.mark.slow
CASES = int(os.environ.get("FUZZ_CASES", "60"))
FUZZED = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LARGEST_GROWTH = 512 * 2**20  # bytes
KINDS = ("whisper", "sharded whisper", "ctranslate2", "conformer", "granite")
FILES = {
    "whisper": ("config.json", "generation_config.json", "tokenizer.json"),
    "sharded whisper": ("model.safetensors.index.json",),
    "ctranslate2": ("config.json", "tokenizer.json"),
    "conformer": ("config.json", "tokenizer.json", "processor_config.json", "model.safetensors"),
    "granite": ("config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"),
}
PLACES = [(kind, name) for kind in KINDS for name in FILES[kind]]
OTHER_VALUES = st.one_of(
    st.sampled_from([2**40, 2**63, 2**100, -1, 0, 1, 1e308, -1e308, float("nan"), float("inf")]),
    st.sampled_from([None, True, False, "", "x", "../../x", "\0", [], {}, [[]], [2**40], {"a": 1}, "9" * 400]),
    st.integers(),
    st.text(max_size=8),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    whisper = random_whisper()
    (root / "granite").mkdir()
    (root / "conformer").mkdir()
    return {
        "whisper": save_transformers(whisper, root / "whisper"),
        "sharded whisper": save_transformers(whisper, root / "shards", "60KB"),
        "ctranslate2": save_ctranslate2(whisper, root / "ctranslate2"),
        "conformer": publish("ctc", root / "conformer").directory,
        "granite": publish_granite(root / "granite").directory,
    }


def load_damaged(path: Path, data: bytes) -> None:
    """Load a folder in which one file holds something else."""
    original = path.read_bytes() if path.exists() else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        path.write_bytes(data)
        load_recogniser(ModelOptions(directory=path.parent, device="cpu", compute_type="float32"))
    except FunASRError as error:
        assert "\n" not in str(error)
        assert str(path.parent) in str(error)
        assert len(str(error)) < 800
    finally:
        if original is None:
            path.unlink()
        else:
            path.write_bytes(original)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < LARGEST_GROWTH


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index in a JSON value, the first few of a long list or mapping."""
    found = [path]
    if isinstance(value, dict):
        for key in list(value)[:60]:
            found += places_of(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 8)):
            found += places_of(value[index], (*path, index))
    return found


def changed(value: Any, path: tuple[Any, ...], other: Any, *, remove: bool) -> Any:
    if not path:
        return other
    value = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and remove:
        del value[path[0]]
    else:
        value[path[0]] = changed(value[path[0]], path[1:], other, remove=remove)
    return value


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in PLACES if name.endswith(".json")])
@FUZZED
@given(data=st.data())
def test_other_values_are_refused_in_one_line_or_read(
    folders: dict[str, Path], kind: str, name: str, data: st.DataObject
) -> None:
    path = folders[kind] / name
    if not path.exists():
        pytest.skip("transformers writes no such file")
    values = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places_of(values)))
        remove = bool(place) and data.draw(st.booleans())
        values = changed(values, place, data.draw(OTHER_VALUES), remove=remove)
    load_damaged(path, json.dumps(values).encode())


@pytest.mark.parametrize(("kind", "name"), [place for place in PLACES if place[0] in ("conformer", "granite")])
@FUZZED
@given(data=st.data())
def test_flipped_bytes_and_cut_files_are_refused_in_one_line_or_read(
    folders: dict[str, Path], kind: str, name: str, data: st.DataObject
) -> None:
    path = folders[kind] / name
    if not path.exists():
        pytest.skip("transformers writes no such file")
    damaged = bytearray(path.read_bytes())
    # What describes the weights is at the beginning.
    near = st.integers(0, min(len(damaged), 6000) - 1)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.one_of(near, st.integers(0, len(damaged) - 1)))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    load_damaged(path, bytes(damaged))


@pytest.mark.parametrize("kind", ["whisper", "conformer", "granite"])
def test_absurd_sizes_are_refused_before_anything_is_built(folders: dict[str, Path], kind: str) -> None:
    path = folders[kind] / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    # Parakeet has no table of positions.
    known = SIZES - {"max_position_embeddings"} if kind == "conformer" else SIZES
    sizes = [place for place in places_of(values) if place and place[-1] in known]
    assert len(sizes) >= 6
    for place in sizes:
        damaged = json.dumps(changed(values, place, 2**40, remove=False)).encode()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        original = path.read_bytes()
        try:
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=f"config.json: .*{place[-1]}"):
                load_recogniser(ModelOptions(directory=path.parent, device="cpu", compute_type="float32"))
        finally:
            path.write_bytes(original)
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 * 2**20


SIZES = {
    "vocab_size", "num_mel_bins", "d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim",
    "max_source_positions", "max_target_positions", "hidden_size", "num_hidden_layers", "intermediate_size",
    "conv_kernel_size", "subsampling_conv_channels", "max_position_embeddings", "context_size", "conv_expansion_factor",
}  # fmt: skip


@pytest.mark.parametrize("name", ["../shards/x.safetensors", "/etc/passwd", "..", "", "gone.safetensors", "a\\..\\b"])
@pytest.mark.parametrize("kind", ["whisper", "conformer", "granite"])
def test_an_index_that_leads_elsewhere_names_what_it_names(folders: dict[str, Path], kind: str, name: str) -> None:
    path = folders[kind] / "model.safetensors.index.json"
    try:
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: names the file"):
            load_recogniser(ModelOptions(directory=path.parent, device="cpu", compute_type="float32"))
    finally:
        path.unlink()
