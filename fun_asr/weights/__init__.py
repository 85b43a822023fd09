"""From the files of a model to a network that computes: directories, loading, arithmetic."""
