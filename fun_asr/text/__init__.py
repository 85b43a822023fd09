"""Text: tokenizers, spoken and written forms, normalisation for scoring."""
