"""Small Whisper models of transformers with random weights, and their folders in every published layout."""

import json
import string
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration

DATA = Path(__file__).parents[2] / "data"
LANGUAGES = ("en", "zh", "de")
SPECIAL = [
    "endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm", "startofprev", "nospeech",
    "notimestamps",
]  # fmt: skip
LETTERS = {letter: number for number, letter in enumerate([*string.ascii_lowercase, "Ġ"])}
TEXT_TOKENS = len(LETTERS)
VOCABULARY = TEXT_TOKENS + len(SPECIAL) + 4  # and some time stamps
WINDOW = 3000  # frames of 10 ms, as every published model has


def token(name: str) -> int:
    """The number of a special token."""
    return TEXT_TOKENS + SPECIAL.index(name)


def write_tokenizer(path: Path) -> None:
    """A vocabulary of single letters with Whisper's special tokens."""
    tokenizer = HuggingFaceTokenizer(models.BPE(vocab=LETTERS, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in SPECIAL])
    tokenizer.save(str(path))


def random_whisper(*, n_mels: int = 80, decoder_layers: int = 2, seed: int = 0) -> WhisperForConditionalGeneration:
    """A model of transformers whose texts depend on what it hears."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=n_mels,
        d_model=32,
        encoder_layers=3,
        decoder_layers=decoder_layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_source_positions=WINDOW // 2,
        max_target_positions=40,
        pad_token_id=token("endoftext"),
        bos_token_id=token("endoftext"),
        eos_token_id=token("endoftext"),
        decoder_start_token_id=token("startoftranscript"),
        suppress_tokens=None,
        begin_suppress_tokens=None,
        attn_implementation="eager",
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # biases and norms off their trivial initial values
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name or "decoder" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.model.decoder.embed_tokens.weight.mul_(0.3)
    return model


@pytest.fixture(scope="session")
def whisper() -> WhisperForConditionalGeneration:
    return random_whisper()


GENERATION = {
    "suppress_tokens": [3, token("startoftranscript")],
    "begin_suppress_tokens": [LETTERS["Ġ"], token("endoftext")],
    "alignment_heads": [[1, 0], [1, 1]],
    "is_multilingual": True,
}


@pytest.fixture
def folder(tmp_path: Path, whisper: WhisperForConditionalGeneration) -> Path:
    """`save_pretrained`, as publishers use it, with a vocabulary."""
    return save_transformers(whisper, tmp_path / "published")


def save_transformers(model: WhisperForConditionalGeneration, directory: Path, shard_size: str = "5GB") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory, max_shard_size=shard_size)
    (directory / "generation_config.json").write_text(json.dumps(GENERATION))
    write_tokenizer(directory / "tokenizer.json")
    return directory


_OPENAI = (
    (".layers.", ".blocks."), (".encoder_attn_layer_norm", ".cross_attn_ln"), (".encoder_attn.", ".cross_attn."),
    (".self_attn_layer_norm", ".attn_ln"), (".self_attn.", ".attn."), ("q_proj", "query"), ("k_proj", "key"),
    ("v_proj", "value"), ("out_proj", "out"), (".final_layer_norm", ".mlp_ln"), (".fc1", ".mlp.0"), (".fc2", ".mlp.2"),
    ("encoder.layer_norm", "encoder.ln_post"), ("decoder.layer_norm", "decoder.ln"),
    ("embed_positions.weight", "positional_embedding"), ("embed_tokens", "token_embedding"),
)  # fmt: skip


def openai_values(model: WhisperForConditionalGeneration) -> dict[str, dict[str, object]]:
    """What OpenAI's `.pt` of the same model holds."""
    state = {}
    for name, tensor in model.model.state_dict().items():
        for theirs, openai in _OPENAI:
            name = name.replace(theirs, openai)
        state[name] = tensor.clone()
    c = model.config
    dims = {
        "n_mels": c.num_mel_bins, "n_vocab": c.vocab_size, "n_audio_ctx": c.max_source_positions,
        "n_audio_state": c.d_model, "n_audio_head": c.encoder_attention_heads, "n_audio_layer": c.encoder_layers,
        "n_text_ctx": c.max_target_positions, "n_text_state": c.d_model, "n_text_head": c.decoder_attention_heads,
        "n_text_layer": c.decoder_layers,
    }  # fmt: skip
    assert {c.encoder_ffn_dim, c.decoder_ffn_dim} == {4 * c.d_model}
    return {"dims": dims, "model_state_dict": state}


def ctranslate2_variables(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """The weights under CTranslate2's names, float32."""
    state = {name: tensor.float().numpy() for name, tensor in model.model.state_dict().items()}
    out: dict[str, np.ndarray] = {
        "decoder/embeddings/weight": state["decoder.embed_tokens.weight"],
        "decoder/position_encodings/encodings": state["decoder.embed_positions.weight"],
        "encoder/position_encodings/encodings": state["encoder.embed_positions.weight"],
        "encoder/num_heads": np.array(model.config.encoder_attention_heads, np.int16),
        "decoder/num_heads": np.array(model.config.decoder_attention_heads, np.int16),
        "decoder/pre_norm": np.array(1, np.int8),
    }
    for conv in ("conv1", "conv2"):
        out |= {f"encoder/{conv}/{x}": state[f"encoder.{conv}.{x}"] for x in ("weight", "bias")}

    def norm(theirs: str, ours: str) -> None:
        out[f"{theirs}/gamma"], out[f"{theirs}/beta"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def linear(theirs: str, *ours: str) -> None:
        out[f"{theirs}/weight"] = np.concatenate([state[f"{x}.weight"] for x in ours])
        biases = [state.get(f"{x}.bias", np.zeros(len(state[f"{x}.weight"]), np.float32)) for x in ours]
        out[f"{theirs}/bias"] = np.concatenate(biases)

    for side, layers in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(layers):
            theirs, ours = f"{side}/layer_{i}", f"{side}.layers.{i}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            if side == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{ours}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    return out


def quantized(variables: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """As CTranslate2's converters store them: integers are values times their scale."""
    out = {}
    for name, array in variables.items():
        matrix = name.endswith("/weight") and array.ndim > 1
        if kind.startswith("int8") and matrix:
            scale = 127 / np.abs(array).reshape(len(array), -1).max(axis=1)
            out[name] = np.rint(array * scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
            out[f"{name}_scale"] = scale.astype(np.float32)
        elif kind == "int16" and matrix:
            scale = np.float32(2**10 / np.abs(array).max())
            out[name], out[f"{name}_scale"] = np.rint(array * scale).astype(np.int16), np.array(scale)
        elif kind.endswith("float16") and array.dtype == np.float32:
            out[name] = array.astype(np.float16)
        else:
            out[name] = array
    return out


def write_ctranslate2(path: Path, variables: dict[str, np.ndarray], aliases: dict[str, str] | None = None) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = ["float32", "int8", "int16", "int32", "float16"]
    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, array in variables.items():
        data += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        data += struct.pack("<BI", kinds.index(str(array.dtype)), array.nbytes) + array.tobytes()
    data += struct.pack("<I", len(aliases or {}))
    for alias, name in (aliases or {}).items():
        data += text(alias) + text(name)
    path.write_bytes(data)


def save_ctranslate2(model: WhisperForConditionalGeneration, directory: Path, kind: str = "float32") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    variables = quantized(ctranslate2_variables(model), kind)
    write_ctranslate2(directory / "model.bin", variables, {"decoder/projection/weight": "decoder/embeddings/weight"})
    said = {
        "suppress_ids": GENERATION["suppress_tokens"],
        "suppress_ids_begin": GENERATION["begin_suppress_tokens"],
        "alignment_heads": GENERATION["alignment_heads"],
        "lang_ids": [token(code) for code in LANGUAGES],
    }
    (directory / "config.json").write_text(json.dumps(said))
    write_tokenizer(directory / "tokenizer.json")
    return directory


@pytest.fixture(scope="session")
def clips() -> list[np.ndarray]:
    """Real speech, 16 kHz."""
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(DATA.glob("*.opus"))]
