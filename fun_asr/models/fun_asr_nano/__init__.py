"""Fun-ASR-Nano and MLT-Nano: a SAN-M encoder writes what a Qwen3 language model reads and turns into text."""
