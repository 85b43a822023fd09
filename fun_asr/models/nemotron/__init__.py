"""Nemotron 3.5 Transcribe: speech and who speaks in, text out, by a mixture of experts with state-space layers."""
