"""Training as data: a recipe, batches augmented on the device, checkpoints that resume to the same result."""
