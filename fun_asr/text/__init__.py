"""Text: tokenizers, spoken and written forms, punctuation, normalisation for scoring."""
