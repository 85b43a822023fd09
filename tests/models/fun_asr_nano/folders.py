"""Small folders of Fun-ASR-Nano as FunASR publishes them, with the weights of `tests.models.sanm.upstream`."""

import base64
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from fun_asr.models.fun_asr_nano.config import NanoConfig, from_upstream
from fun_asr.models.fun_asr_nano.weights import weight_table
from fun_asr.models.published import Values
from tests.models.sanm.upstream import FRONT_END, tensors, write_folder

ENCODER = {
    "output_size": 32, "attention_heads": 4, "linear_units": 64, "num_blocks": 3, "tp_blocks": 2, "kernel_size": 11,
}  # fmt: skip
LANGUAGE_MODEL: dict[str, Any] = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 264, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 48, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "attention_bias": False,
    "tie_word_embeddings": True, "max_position_embeddings": 4096, "eos_token_id": 257, "bos_token_id": 258,
}  # fmt: skip
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|object_ref_start|>"]
SPECIAL_CTC = 1679
"""Tokens that upstream's CTC vocabulary has beyond those of the file; the last of them is the blank."""


def write_tokenizer(directory: Path) -> None:
    """Bytes alone, and the tokens that Qwen's prompts are made of."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in ("<think>", "</think>")])
    backend.save(str(directory / "tokenizer.json"))


def write_ctc_vocabulary(path: Path) -> int:
    """Bytes and some words in tiktoken's form; returns how many tokens there are."""
    tokens = [bytes([byte]) for byte in range(256)]
    for word in ("th", "the", " t", " the", " q", " qu", "ic", " quic", " quick", "ow", "ox", "今", "天", "今天", "气"):
        encoded = word.encode()
        tokens += [encoded[:end] for end in range(2, len(encoded)) if encoded[:end] not in tokens]
        tokens += [encoded] if encoded not in tokens else []
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)))
    return len(tokens)


def settings(ctc_tokens: int, **adaptor: object) -> dict[str, Any]:
    """A `config.yaml`."""
    return {
        "model": "FunASRNano",
        "audio_encoder": "SenseVoiceEncoderSmall",
        "audio_encoder_conf": ENCODER,
        "audio_adaptor": "Transformer",
        "audio_adaptor_conf": {
            "downsample_rate": 1, "use_low_frame_rate": True, "ffn_dim": 48, "llm_dim": 32, "encoder_dim": 32,
            "n_layer": 2, **adaptor,
        },
        "llm": "Qwen3-0.6b",
        "llm_conf": {"init_param_path": "Qwen3-0.6B", "llm_dtype": "bf16", "use_lora": False},
        "ctc_decoder": "Transformer",
        "ctc_decoder_conf": {
            "downsample_rate": 1, "ffn_dim": 40, "llm_dim": 32, "encoder_dim": 32, "n_layer": 3,
        },
        "ctc_vocab_size": ctc_tokens + SPECIAL_CTC,
        "frontend": "WavFrontend",
        "frontend_conf": FRONT_END,
        "dataset_conf": {"do_think": False, "sys_prompt": True},
    }  # fmt: skip


def write_model(directory: Path, *, ctc: bool = True, **adaptor: object) -> NanoConfig:
    """A folder, with the CTC branch or without, as both are published."""
    folder = directory / "Qwen3-0.6B"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LANGUAGE_MODEL))
    write_tokenizer(folder)
    values = settings(write_ctc_vocabulary(directory / "multilingual.tiktoken"), **adaptor)
    config = from_upstream(Values(values, "config.yaml"), Values(LANGUAGE_MODEL, "config.json"), has_ctc=ctc)
    state = tensors(weight_table(config, upstream=True).shapes)
    state["llm.lm_head.weight"] = state["llm.model.embed_tokens.weight"]  # stored though it is the same
    write_folder(directory, values, state)
    return config
