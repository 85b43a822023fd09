"""Names and shapes of SenseVoice's weights as FunASR writes them, and what becomes of them here."""

from __future__ import annotations

from fun_asr.models.sanm.table import Table, encoder_table
from fun_asr.models.sense_voice.config import NUM_ROWS, SenseVoiceConfig

__all__ = ["HEAD", "weight_table"]

HEAD = "ctc.ctc_lo"


def weight_table(config: SenseVoiceConfig) -> Table:
    """Every tensor that is needed, and every parameter of `fun_asr.models.sense_voice.network.SenseVoice`."""
    table = Table()
    encoder_table(table, config.encoder, "encoder.", "encoder.", upstream=True)
    table.tensor("queries.weight", ["embed.weight"], NUM_ROWS, config.encoder.in_dim)
    table.linear("ctc_head", HEAD, config.vocab_size, config.encoder.dim)
    return table
