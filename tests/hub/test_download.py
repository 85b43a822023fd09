"""`fun-asr models download` from a server that stands for the hub: which files, resumed, and what errors say."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click.testing
import pytest
from huggingface_hub import constants

from fun_asr.cli import main
from tests.hub.conftest import Hub

CONFIG = json.dumps({"model_type": "whisper"}).encode()


class Run:
    """The command; it returns as a finished process does."""

    def __init__(self, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.environment = os.environ | {"HF_ENDPOINT": hub.address, "NO_PROXY": "127.0.0.1"}
        monkeypatch.chdir(folder)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        self.at(hub.address)

    def at(self, server: str) -> None:
        """Change what the client read from HF_ENDPOINT when it was imported."""
        self.monkeypatch.setattr(constants, "ENDPOINT", server)
        template = server + "/{repo_id}/resolve/{revision}/{filename}"
        self.monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "fun_asr", "models", "download", *arguments]

    def __call__(self, *arguments: str) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, ["models", "download", *arguments])


@pytest.fixture
def run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(hub, tmp_path, monkeypatch)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_only_what_loading_needs_is_fetched(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {
        "config.json": CONFIG,
        "generation_config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": b"w" * 1000,
        "pytorch_model.bin": b"pickle",
        "model.fp32-00001-of-00002.safetensors": b"more",
        "flax_model.msgpack": b"other",
        "README.md": b"# card",
        "onnx/model.safetensors": b"other",
    }
    result = run("owner/model", "--to", "here/whisper")
    assert (result.exit_code, result.stdout) == (0, f"{Path('here/whisper')}\n"), result.stderr
    assert files_in(tmp_path / "here" / "whisper") == {
        "config.json", "generation_config.json", "tokenizer.json", "model.safetensors",
    }  # fmt: skip
    assert (tmp_path / "here" / "whisper" / "model.safetensors").read_bytes() == b"w" * 1000
    assert hub.fetched[-1][0] == "model.safetensors"


def test_the_folder_is_named_after_the_model(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"archive.nemo": b"tar", "README.md": b""}
    result = run("owner/model")
    assert (result.exit_code, result.stdout) == (0, "model\n"), result.stderr
    assert files_in(tmp_path / "model") == {"archive.nemo"}


def test_shards_are_those_that_the_index_names(run: Run, hub: Hub, tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    hub.files = {
        "config.json": CONFIG,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": b"a",
        "model-00002-of-00002.safetensors": b"b",
        "model-00001-of-00004.safetensors": b"of another precision",
    }
    result = run("owner/model", "--to", "m")
    assert result.exit_code == 0, result.stderr
    assert files_in(tmp_path / "m") == set(hub.files) - {"model-00001-of-00004.safetensors"}


@pytest.mark.parametrize("name", ["../../outside.safetensors", "gone.safetensors", "deep/x.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(run: Run, hub: Hub, tmp_path: Path, name: str) -> None:
    hub.files = {
        "config.json": CONFIG,
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": name}}).encode(),
        "deep/x.safetensors": b"x",
    }
    result = run("owner/model", "--to", "m")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert f"names the file '{name}'" in result.stderr
    assert not (tmp_path.parent / "outside.safetensors").exists()


def test_a_cut_download_goes_on_where_it_was_cut(run: Run, hub: Hub, tmp_path: Path) -> None:
    weights = os.urandom(30_000_000)
    hub.files = {"config.json": CONFIG, "model.safetensors": weights}
    hub.cut_after = 20_000_000
    process = subprocess.Popen(run.command("owner/model", "--to", "m"), cwd=tmp_path, env=run.environment, stderr=-3)
    # The client tries again by itself, after a second; it is killed before that.
    while process.poll() is None and sum(p.stat().st_size for p in tmp_path.glob("m/.fun-asr-*")) < 10_000_000:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "m" / "model.safetensors").exists()
    hub.cut_after = None
    hub.fetched.clear()
    result = run("owner/model", "--to", "m")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == weights
    (wanted,) = [wanted for name, wanted in hub.fetched if name == "model.safetensors"]
    assert wanted is not None
    assert int(wanted.removeprefix("bytes=").partition("-")[0]) >= 10_000_000
    hub.fetched.clear()
    assert run("owner/model", "--to", "m").exit_code == 0
    assert hub.fetched == []
    assert files_in(tmp_path / "m") == set(hub.files)


def test_what_has_changed_at_the_hub_is_fetched_again(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": CONFIG, "model.safetensors": b"old!"}
    assert run("owner/model", "--to", "m").exit_code == 0
    hub.files["model.safetensors"] = b"new!"
    assert run("owner/model", "--to", "m").exit_code == 0
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == b"new!"


def test_what_arrives_damaged_is_not_kept(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"a.nemo": b"an archive"}
    hub.damaged = True
    result = run("owner/model", "--to", "m")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "a.nemo arrived damaged" in result.stderr
    assert list((tmp_path / "m").iterdir()) == []


def test_a_model_that_cannot_be_loaded_is_refused_before_its_weights(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": json.dumps({"model_type": "llama"}).encode(), "model.safetensors": b"w"}
    result = run("owner/model", "--to", "m")
    assert result.exit_code == 2
    assert "'llama'" in result.stderr
    assert "whisper" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [name for name, _ in hub.fetched] == ["config.json"]


def test_a_repository_without_weights_is_refused(run: Run, hub: Hub) -> None:
    hub.files = {"config.json": CONFIG, "pytorch_model.bin": b"pickle"}
    result = run("owner/model")
    assert result.exit_code == 1
    assert "owner/model: no model to load there" in result.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/unknown", "owner/unknown: no such model at http://127.0.0.1"),
        ("owner/bad name", "owner/bad name: no name of a model"),
    ],
)
def test_a_name_that_the_hub_does_not_know(run: Run, name: str, said: str) -> None:
    result = run(name)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_a_name_of_neither_list_nor_hub_is_refused_without_asking(run: Run) -> None:
    run.at("http://127.0.0.1:9")
    result = run("whisper-bas")
    assert result.exit_code == 2
    assert "did you mean whisper-base?" in result.stderr


def test_a_gated_model_says_where_to_ask(run: Run, hub: Hub) -> None:
    hub.gated = True
    result = run("owner/model")
    assert result.exit_code == 1
    assert f"accept at {hub.address}/owner/model" in result.stderr


@pytest.mark.parametrize("offline", [False, True])
def test_without_network_one_line_says_so(run: Run, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run.at("http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    result = run("whisper-tiny")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "openai/whisper-tiny: http://127.0.0.1:9 cannot be reached" in result.stderr


def test_without_the_extra_one_line_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = run("owner/model")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "pip install .[hub]" in result.stderr
