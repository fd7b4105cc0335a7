"""Official checkpoints: the names of their tensors, and ours for the same."""
