"""OpenAI's Whisper (Radford et al. 2022) and what is made of it, such as distil-whisper: encoder and decoder alone."""
