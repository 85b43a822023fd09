"""Punctuation and case of bare words: a small network of its own."""

from fun_asr.punctuation.punctuator import Prediction, Punctuator

__all__ = ["Prediction", "Punctuator"]
