"""Names and shapes of Fun-ASR-Nano's weights as FunASR and transformers write them, and what becomes of them here."""

from __future__ import annotations

from collections.abc import Iterable

from fun_asr.models.causal_lm import causal_lm_recipes, causal_lm_shapes
from fun_asr.models.fun_asr_nano.config import AdaptorConfig, NanoConfig
from fun_asr.models.sanm.table import TRANSFORMERS, UPSTREAM, Table, encoder_table

__all__ = ["ctc_tensors", "head_name", "weight_table"]

_CTC = ("ctc_decoder.", "ctc.")


def ctc_tensors(names: Iterable[str]) -> list[str]:
    """Those of upstream's CTC branch."""
    return [name for name in names if name.startswith(_CTC)]


def head_name(*, upstream: bool) -> str:
    """What the output projection is called; where it is the embedding it may be stored all the same."""
    return "llm.lm_head" if upstream else "lm_head"


def embedding_name(*, upstream: bool) -> str:
    """What the embedding is called."""
    return f"{_language_model(upstream)}embed_tokens"


def _language_model(upstream: bool) -> str:
    return "llm.model." if upstream else "model.language_model."


def weight_table(config: NanoConfig, *, upstream: bool) -> Table:
    """Every tensor that is needed, and every parameter of `fun_asr.models.fun_asr_nano.network.Nano`.

    Arguments:
        config: the sizes.
        upstream: whether the layout is that of FunASR's `model.pt`, or that of transformers.
    """
    table = Table()
    encoder_table(
        table,
        config.encoder,
        "encoder.",
        "audio_encoder." if upstream else "model.audio_tower.",
        upstream=upstream,
    )
    if upstream:
        _adaptor(table, config.adaptor, "adaptor", "audio_adaptor", upstream=True)
    else:
        _adaptor(table, config.adaptor, "adaptor", "model.multi_modal_projector", upstream=False)
    if config.ctc is not None:
        _adaptor(table, config.ctc.adaptor, "ctc_adaptor", "ctc_decoder", upstream=True)
        table.linear("ctc_head", "ctc.ctc_lo", config.ctc.vocab_size, config.ctc.adaptor.dim)
    theirs, head = _language_model(upstream), head_name(upstream=upstream)
    table.shapes.update(causal_lm_shapes(config.language_model, theirs, head))
    table.recipes.update(causal_lm_recipes(config.language_model, "language_model.", theirs, head))
    return table


def _adaptor(table: Table, config: AdaptorConfig, ours: str, theirs: str, *, upstream: bool) -> None:
    first, second, blocks = ("linear1", "linear2", "blocks") if upstream else ("linear_1", "linear_2", "layers")
    table.linear(f"{ours}.up", f"{theirs}.{first}", config.hidden_dim, config.in_dim)
    table.linear(f"{ours}.down", f"{theirs}.{second}", config.dim, config.hidden_dim)
    names = UPSTREAM if upstream else TRANSFORMERS
    for number in range(config.num_layers):
        table.block(f"{ours}.blocks.{number}", f"{theirs}.{blocks}.{number}", names, config.dim, config.ffn_dim)
