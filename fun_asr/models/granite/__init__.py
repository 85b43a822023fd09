"""Granite Speech CTC: a conformer with attention in blocks whose middle layer is told what its own CTC head reads."""
