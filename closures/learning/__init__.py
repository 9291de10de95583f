"""What learned closures share: networks, batches, the training loop, weights and their compatibility."""
