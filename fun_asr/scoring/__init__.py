"""Scoring: how far hypotheses are from references, how sure that is, and reports of it."""
