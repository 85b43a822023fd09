"""Qwen3's speech models: Qwen3-ASR, its forced aligner, and the thinker of Qwen3-Omni."""
