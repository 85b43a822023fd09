"""Recognition over HTTP and WebSocket: the protocols of OpenAI and FunASR, and one queue for the model."""
