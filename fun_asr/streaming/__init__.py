"""Recognition while somebody speaks: samples in as they come, words out as they are understood."""
