"""Text: tokenizers now; inverse text normalization and punctuation come beside them."""
