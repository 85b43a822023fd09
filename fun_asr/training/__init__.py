"""Training: manifests, augmentation, losses and the loop."""
