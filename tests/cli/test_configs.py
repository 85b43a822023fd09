"""`fun-asr configs`: what an installation without a checkout has to train and count with."""

from pathlib import Path

import click.testing
import pytest
import yaml

from fun_asr.bundled import BUNDLED_MODEL
from fun_asr.cli import main
from fun_asr.configuration import load_yaml
from fun_asr.training.config import TrainConfig


def run(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, ["configs", *map(str, arguments)])


def test_they_are_listed_with_what_they_are_for() -> None:
    lines = dict(line.split(maxsplit=1) for line in run().stdout.splitlines())
    root = Path(__file__).parents[2] / "configs"
    assert list(lines) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))
    assert lines["fine-tune.yaml"].startswith("Fine-tunes a model on one's own recordings")


@pytest.mark.parametrize("folder", ["configs", "a b/c: #d"])
def test_a_training_written_out_begins_from_the_model_in_the_package(tmp_path: Path, folder: str) -> None:
    out = tmp_path / folder
    assert run("-o", out).exit_code == 0
    written = out / "fine-tune.yaml"
    config = load_yaml(TrainConfig, written)
    assert (written.parent / config.init).resolve() == BUNDLED_MODEL.resolve()
    for path in out.rglob("*.yaml"):
        assert "../fun_asr" not in str(yaml.safe_load(path.read_text()).get("init", ""))


def test_what_was_changed_is_not_replaced_unasked(tmp_path: Path) -> None:
    run("-o", tmp_path)
    assert run("-o", tmp_path).exit_code == 0
    (tmp_path / "fine-tune.yaml").write_text("mine: yes\n")
    result = run("-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"fun-asr: error: {tmp_path / 'fine-tune.yaml'}: exists and is another; --overwrite replaces it\n"
    )
    assert (tmp_path / "fine-tune.yaml").read_text() == "mine: yes\n"
    assert run("-o", tmp_path, "--overwrite").exit_code == 0
