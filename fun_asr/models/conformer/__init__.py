"""FastConformers with a CTC head, a transducer or both, as NVIDIA publishes them (Parakeet)."""
