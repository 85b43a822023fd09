"""Transcripts as files: one small class a format."""
