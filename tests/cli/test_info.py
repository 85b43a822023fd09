"""`fun-asr info`: tables for people, exact counts for machines, one line for a config that cannot be used."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fun_asr.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["info", *map(str, arguments)])


def test_tables_of_the_30b_config() -> None:
    result = run(CONFIGS / "fun-asr-30b-a3b.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {line[:34].strip(): line[34:].split() for line in result.stdout.splitlines()}
    assert rows["whole model"][-1] == "G"  # the FLOPs, below the parameters
    assert rows["routed experts, 8 of 128"] == ["28.99", "B", "1.812", "B"]
    assert rows["weights read a token"][-1] == "G"
    assert "4 tokens a second" in result.stdout


def test_json_holds_exact_counts() -> None:
    result = run(CONFIGS / "fun-asr-test.yaml", "--json", "--tokens-per-second", 2)
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    parameters = values["parameters"]
    assert parameters["model"]["total"] == sum(parameters[part]["total"] for part in ("encoder", "ctc", "decoder"))
    assert parameters["decoder.routed_experts"] == {"total": 3 * 6 * 3 * 32 * 20, "active": 3 * 2 * 3 * 32 * 20}
    assert (values["segment_seconds"], values["tokens_per_second"]) == (30.0, 2.0)
    assert set(values["decode_bytes"]) == {"float32", "bfloat16", "int8"}


def test_more_tokens_a_second_cost_the_decoder_alone() -> None:
    slow, fast = (
        json.loads(run(CONFIGS / "fun-asr-test.yaml", "--json", "--tokens_per_second", n).stdout)["flops_per_second"]
        for n in (2, 4)
    )
    assert slow["encoder"] == fast["encoder"] and slow["ctc"] == fast["ctc"]
    assert slow["decoder"]["total"] < fast["decoder"]["total"]


def test_a_model_directory_will_do(tiny_model_dir: Path) -> None:
    result = run(tiny_model_dir, "--tokens_per_second", 0.5)
    assert result.exit_code == 0
    assert "routed experts, 2 of 4" in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder: {widht: 3}", "unknown key 'widht'"),
        ("encoder: {dim: 24}", "must be equal"),
        ("encoder: {num_heads: 0}", "encoder.num_heads must be at least 1"),
        ("decoder: {num_layers: -1}", "decoder.num_layers must be at least 1"),
        ("decoder: [", "no valid YAML"),
        ("- 1", "expected a mapping"),
    ],
)
def test_a_bad_config_is_one_line_that_names_it_and_status_2(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text, encoding="utf-8")
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fun-asr: error: {path}: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.yaml", "", "weights.safetensors"])
def test_what_is_no_config_is_one_line_and_status_2(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(bytes(range(256)))
    result = run(tmp_path / name)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert str(tmp_path / name) in result.stderr


def test_too_many_tokens_a_second_are_status_2() -> None:
    result = run(CONFIGS / "fun-asr-test.yaml", "--tokens_per_second", 20)
    assert result.exit_code == 2
    assert "decoder.max_tokens" in result.stderr
