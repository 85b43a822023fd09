"""`.nemo` archives as NeMo writes them, of a model of transformers."""

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.models.conformer.conftest import PIECES, Published

NAMES = (
    (r"^encoder\.subsampling\.layers\.", "encoder.pre_encode.conv."),
    (r"^encoder\.subsampling\.linear\.", "encoder.pre_encode.out."),
    (r"\.conv\.norm\.", ".conv.batch_norm."),
    (r"\.relative_k_proj\.", ".linear_pos."),
    (r"\.([qkv])_proj\.", r".linear_\1."),
    (r"\.o_proj\.", ".linear_out."),
    (r"\.bias_([uv])$", r".pos_bias_\1"),
    (r"^decoder\.embedding\.", "decoder.prediction.embed."),
    (r"^decoder\.lstm\.", "decoder.prediction.dec_rnn.lstm."),
    (r"^encoder_projector\.", "joint.enc."),
    (r"^decoder\.decoder_projector\.", "joint.pred."),
    (r"^joint\.head\.", "joint.joint_net.2."),
)


def state_dict(published: Published, ctc: str = "decoder") -> dict[str, torch.Tensor]:
    state = {}
    for name, tensor in published.model.state_dict().items():
        for pattern, replacement in ((r"^ctc_head\.", f"{ctc}.decoder_layers.0."), *NAMES):
            name = re.sub(pattern, replacement, name)
        state[name] = tensor.clone()
    state["preprocessor.featurizer.window"] = torch.hann_window(400, periodic=False)
    state["preprocessor.featurizer.fb"] = torch.zeros(1, 80, 257)
    return state


def config(published: Published) -> dict[str, Any]:
    sizes = published.model.config.encoder_config
    vocabulary = [f"piece {i}" for i in range(PIECES)]
    values: dict[str, Any] = {
        "target": "nemo.collections.asr.models.EncDecRNNTBPEModel",
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "sample_rate": 16000,
            "normalize": "per_feature", "window_size": 0.025, "window_stride": 0.01, "window": "hann",
            "features": sizes.num_mel_bins, "n_fft": 512, "log": True, "frame_splicing": 1, "dither": 1e-5, "pad_to": 0,
        },
        "tokenizer": {"dir": "/data/tokenizer", "type": "bpe", "model_path": "nemo:1f3a_tokenizer.model"},
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder", "feat_in": "${preprocessor.features}",
            "feat_out": -1, "n_layers": sizes.num_hidden_layers, "d_model": sizes.hidden_size,
            "use_bias": sizes.attention_bias, "subsampling": "dw_striding", "subsampling_factor": 8,
            "subsampling_conv_channels": sizes.subsampling_conv_channels, "causal_downsampling": False,
            "ff_expansion_factor": sizes.intermediate_size // sizes.hidden_size, "self_attention_model": "rel_pos",
            "n_heads": sizes.num_attention_heads, "att_context_size": [-1, -1], "att_context_style": "regular",
            "xscaling": sizes.scale_input, "untie_biases": True, "pos_emb_max_len": 5000,
            "conv_kernel_size": sizes.conv_kernel_size, "conv_norm_type": "batch_norm", "conv_context_size": None,
        },
    }  # fmt: skip
    if published.kind == "ctc":
        values["decoder"] = {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder", "feat_in": None, "num_classes": -1,
            "vocabulary": vocabulary,
        }  # fmt: skip
        return values
    values["labels"] = vocabulary
    width = published.model.config.decoder_hidden_size
    values["decoder"] = {
        "_target_": "nemo.collections.asr.modules.RNNTDecoder", "blank_as_pad": True, "vocab_size": PIECES,
        "prednet": {"pred_hidden": width, "pred_rnn_layers": published.model.config.num_decoder_layers},
    }  # fmt: skip
    values["joint"] = {
        "_target_": "nemo.collections.asr.modules.RNNTJoint", "num_classes": PIECES, "vocabulary": list(vocabulary),
        "jointnet": {"joint_hidden": width, "activation": "relu", "dropout": 0.2},
    }  # fmt: skip
    values["decoding"] = {"strategy": "greedy_batch", "greedy": {"max_symbols": 10}}
    if published.kind == "tdt":
        values["joint"]["num_extra_outputs"] = 5
        values["decoding"] |= {"model_type": "tdt", "durations": [0, 1, 2, 3, 4]}
    return values


def parts(published: Published) -> dict[str, bytes]:
    """The members of an archive."""
    weights = io.BytesIO()
    torch.save(state_dict(published), weights)
    return {
        "./model_config.yaml": yaml.safe_dump(config(published)).encode(),
        "./1f3a_tokenizer.model": published.pieces.read_bytes(),
        "./1f3a_vocab.txt": b"\n".join(b"piece" for _ in range(PIECES)),
        "./model_weights.ckpt": weights.getvalue(),
    }


def write(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
