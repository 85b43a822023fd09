"""Qwen's speech models as they are published, with random weights, small sizes and a small vocabulary."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
)
from transformers.models.qwen3_asr.feature_extraction_qwen3_asr import Qwen3ASRFeatureExtractor
from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerForConditionalGeneration

from fun_asr.models.qwen3.prompts import ASR_LANGUAGES
from tests.models.reference import SENTENCES, clips, randomise

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>", "<asr_text>",
    "<timestamp>",
)  # fmt: skip
AUDIO: dict[str, Any] = {
    "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "d_model": 32, "output_dim": 48,
    "downsample_hidden_size": 8, "n_window_infer": 200,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    directory: Path
    model: Any
    tokenizer: Any

    def tokens(self, text: str) -> list[int]:
        """Of a prompt as it is published, special tokens and all."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def inputs(self, wave: npt.NDArray[np.float32], prompt: str) -> dict[str, Tensor]:
        """What transformers takes: the prompt's one <|audio_pad|> becomes as many as there are vectors."""
        features = Qwen3ASRFeatureExtractor()(
            [wave], sampling_rate=16000, padding=True, return_attention_mask=True, return_tensors="pt"
        )
        mask = features["attention_mask"]
        frames = int(mask.sum())
        whole, rest = divmod(frames, 100)
        for _ in range(3):
            rest = -(-rest // 2)
        (pad,) = self.tokens("<|audio_pad|>")
        ids = [token for t in self.tokens(prompt) for token in ([t] * (13 * whole + rest) if t == pad else [t])]
        found = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if self.model.config.model_type == "qwen3_omni_moe_thinker":
            return found | {
                "input_features": features["input_features"][:, :, :frames],
                "feature_attention_mask": mask[:, :frames],
            }
        return found | {"input_features": features["input_features"], "input_features_mask": mask}

    def written(self, wave: npt.NDArray[np.float32], prompt: str, count: int, stop: list[int]) -> list[int]:
        """The tokens that transformers writes, without the one that ends them."""
        inputs = self.inputs(wave, prompt)
        with torch.no_grad():
            ids = self.model.generate(
                **inputs, max_new_tokens=count, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
            )
        tokens: list[int] = ids[0, inputs["input_ids"].shape[1] :].tolist()
        ends = [place for place, token in enumerate(tokens) if token in stop]
        return tokens[: ends[0]] if ends else tokens


def tokenizer_in(directory: Path) -> Any:
    """A vocabulary in which the name of every language is one token, as in Qwen's."""
    names = [f" {name}" for name in (*ASR_LANGUAGES.values(), "None")]
    base = ByteLevelBPETokenizer()
    base.train_from_iterator([*SENTENCES, *names * 50, "language " * 50], vocab_size=700, show_progress=False)
    base.save_model(str(directory))
    tokenizer = Qwen2Tokenizer.from_pretrained(directory)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.save_pretrained(directory)
    return tokenizer


def publish(kind: str, directory: Path) -> Published:
    torch.manual_seed(0)  # whatever tests ran before
    directory.mkdir(exist_ok=True)
    tokenizer = tokenizer_in(directory)
    text = {**TEXT, "vocab_size": len(tokenizer)}
    model: Any
    if kind == "omni":
        config = Qwen3OmniMoeThinkerConfig(
            audio_config=AUDIO,
            text_config={
                **text, "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "mlp_only_layers": [1],
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48,
                "deepstack_visual_indexes": [0], "num_position_embeddings": 16,
            },
            audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
            vision_start_token_id=0,
            audio_start_token_id=tokenizer.convert_tokens_to_ids("<|audio_start|>"),
        )  # fmt: skip
        model = Qwen3OmniMoeThinkerForConditionalGeneration(config)
    else:
        sizes: dict[str, Any] = {
            "audio_config": AUDIO,
            "text_config": {**text, "model_type": "qwen3"},
            "audio_token_id": tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
            "timestamp_token_id": tokenizer.convert_tokens_to_ids("<timestamp>"),
        }
        if kind == "aligner":
            model = Qwen3ASRForTokenClassification(Qwen3ASRConfig(**sizes, num_labels=60))
        else:
            model = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**sizes))
    model = model.eval()
    randomise(model, 1, 0.4)
    if kind == "aligner":
        # Away from what all marks have in common, or all are of one class.
        words = "".join(f"{word}<timestamp><timestamp>" for word in SENTENCES[0].split())
        inputs = Published(directory, model, tokenizer).inputs(
            clips()[0], f"<|audio_start|><|audio_pad|><|audio_end|>{words}"
        )
        with torch.no_grad():
            hidden = model.model(**inputs).last_hidden_state[0]
            common = hidden[inputs["input_ids"][0] == model.config.timestamp_token_id].mean(dim=0)
            common /= common.norm()
            model.score.weight -= (model.score.weight @ common)[:, None] * common
    model.save_pretrained(directory)
    return Published(directory, model, tokenizer)


def as_qwen_writes(published: Published, directory: Path, **beside: Tensor) -> Path:
    """The same model with the names, configuration and vocabulary files that Qwen publishes.

    Arguments:
        beside: tensors that are there too.
    """
    directory.mkdir(exist_ok=True)
    labels = hasattr(published.model, "score")
    renamed = {}
    for name, tensor in published.model.state_dict().items():
        for old, new in (
            ("model.language_model.", "thinker.model."),
            ("model.multi_modal_projector.linear_1.", "thinker.audio_tower.proj1."),
            ("model.multi_modal_projector.linear_2.", "thinker.audio_tower.proj2."),
            ("model.", "thinker."),
            ("lm_head.", "thinker.lm_head."),
            ("score.", "thinker.lm_head."),
        ):
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor.clone()
    save_file({**renamed, **beside}, directory / "model.safetensors")
    values = published.model.config.to_dict()
    text = dict(values["text_config"])
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["rope_scaling"] = {"mrope_section": [3, 3, 2], "interleaved": True, "rope_type": "default", "type": "default"}
    model_type = values["model_type"]
    if model_type == "qwen3_asr":
        text |= {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    config = {
        "model_type": "qwen3_omni_moe" if "omni" in model_type else model_type,
        "thinker_config": {"audio_config": values["audio_config"], "text_config": text}
        | ({"classify_num": 60} if labels else {}),
    }
    if labels:
        config |= {"timestamp_token_id": values["timestamp_token_id"], "timestamp_segment_time": 80}
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer = published.tokenizer
    vocabulary = json.loads((published.directory / "tokenizer.json").read_text("utf-8"))["model"]
    (directory / "vocab.json").write_text(json.dumps(vocabulary["vocab"]), "utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in vocabulary["merges"]]
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    added = {str(number): {"content": str(token)} for number, token in tokenizer.added_tokens_decoder.items()}
    (directory / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return directory


@pytest.fixture(scope="session")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish("asr", tmp_path_factory.mktemp("qwen3-asr"))


@pytest.fixture(scope="session")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish("aligner", tmp_path_factory.mktemp("qwen3-aligner"))


@pytest.fixture(scope="session")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish("omni", tmp_path_factory.mktemp("qwen3-omni"))
