"""The bundled model's family: conformer-style encoder, CTC head and mixture-of-experts decoder."""
