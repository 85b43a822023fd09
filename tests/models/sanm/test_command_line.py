"""Folders of FunASR given to the commands: transcripts with tags, what is said of a model, options that do not go."""

import json
from pathlib import Path

import pytest
from transformers import FunAsrNanoForConditionalGeneration

from tests.models.fun_asr_nano.folders import LANGUAGE_MODEL, settings, write_model, write_tokenizer
from tests.models.fun_asr_nano.test_transformers import small_config
from tests.models.reference import DATA, randomise
from tests.models.sense_voice.test_upstream import write_model as write_sense_voice
from tests.models.test_command_line import run

CLIP = DATA / "libri-00001.opus"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    found = {name: root / name for name in ("sense", "nano", "nano-hf")}
    for path in found.values():
        path.mkdir()
    write_sense_voice(found["sense"])
    write_model(found["nano"])
    reference = FunAsrNanoForConditionalGeneration(small_config())
    randomise(reference, 5)
    reference.save_pretrained(found["nano-hf"])
    write_tokenizer(found["nano-hf"])
    return found


def test_sense_voice_writes_text_without_tags_and_json_with_them(models: dict[str, Path]) -> None:
    code, out, err = run("transcribe", "-m", models["sense"], "-f", "json", CLIP, DATA / "cv-00001.opus")
    assert code == 0, err
    for line in out.splitlines():
        found = json.loads(line)
        assert found["model"]["family"] == "sense_voice" and found["word_times"]
        for segment in found["segments"]:
            assert set(segment["tags"]) <= {"emotion", "event"}
            assert "<|" not in segment["text"]
        assert found["language"] in ("zh", "en", "yue", "ja", "ko")
    code, out, err = run("transcribe", "-m", models["sense"], "-l", "Cantonese", "-f", "json", CLIP)
    assert code == 0 and json.loads(out)["language"] == "yue", err
    code, text, err = run("transcribe", "-m", models["sense"], "-l", "en", "--no_itn", CLIP)
    assert code == 0 and "<|" not in text, err


@pytest.mark.parametrize("name", ["nano", "nano-hf"])
def test_both_layouts_of_nano_transcribe_and_say_what_they_lack(models: dict[str, Path], name: str) -> None:
    code, out, err = run(
        "transcribe", "-m", models[name], "-l", "zh", "--hotwords", "开放时间", "--beam_size", 1, "-f", "json", CLIP
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["model"]["family"] == "fun_asr_nano"
    lacks = ["words have no times: these weights have no CTC branch"]
    assert found["model"]["notes"] == ([] if name == "nano" else lacks)


def test_transformers_folder_is_written_in_int8(models: dict[str, Path], tmp_path: Path) -> None:
    code, _, err = run("convert", "int8", models["nano-hf"], tmp_path / "small")
    assert code == 0, err
    code, _, err = run("transcribe", "-m", tmp_path / "small", "-l", "zh", "--beam_size", 1, CLIP)
    assert code == 0, err


def test_options_that_a_model_cannot_follow_are_refused(models: dict[str, Path]) -> None:
    for name, arguments, cause in (
        ("sense", ["-l", "de"], "the model does not know 'de'"),
        ("sense", ["--initial_prompt", "Fox"], "initial_prompt"),
        ("nano", ["--temperature_fallback"], "temperature_fallback"),
        ("nano", ["--task", "translate"], "task translate: this model can only transcribe"),
        ("nano-hf", ["--decoding", "ctc"], "no CTC branch"),
    ):
        code, out, err = run("transcribe", "-m", models[name], *arguments, CLIP)
        assert (code, out) == (2, "")
        assert cause in err and len(err.splitlines()) <= 4


def test_info_gives_the_published_totals(models: dict[str, Path], tmp_path: Path) -> None:
    values = settings(336)
    values["audio_encoder_conf"] |= {
        "output_size": 512, "linear_units": 2048, "num_blocks": 50, "tp_blocks": 20,
    }  # fmt: skip
    values["audio_adaptor_conf"] |= {"ffn_dim": 2048, "llm_dim": 1024}
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    (tmp_path / "Qwen3-0.6B").mkdir()
    text = {
        **LANGUAGE_MODEL, "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
    }  # fmt: skip
    (tmp_path / "Qwen3-0.6B" / "config.json").write_text(json.dumps(text))
    code, out, err = run("info", tmp_path, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["family"] == "fun_asr_nano"
    # A weight of queries' and of keys' norms is there once, here once for each head.
    assert found["parameters"]["model"] == pytest.approx(829_791_840, rel=1e-4)
    assert found["flops_per_second"]["language_model"] > 0
    code, out, err = run("info", models["sense"])
    assert code == 0 and "CTC head" in out, err
