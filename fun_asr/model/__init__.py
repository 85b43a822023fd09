"""The recogniser's network: encoder, CTC head and mixture-of-experts decoder."""
