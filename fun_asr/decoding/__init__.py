"""Decoding: the network's scores to tokens."""
