"""What norms, measures and the lab need of torch, and nothing of the benchmark."""
