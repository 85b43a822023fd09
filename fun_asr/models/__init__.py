"""Model families, a folder each: configuration, network, weights."""
