"""From any audio or video file to what the encoder reads."""
