"""What can be trained: a family of models with its batches, losses, scores and the folder that it is written to."""
