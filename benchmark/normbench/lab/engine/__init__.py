"""What computes training steps and the gradients that attacks climb: plain torch, compiled code, CUDA graphs."""
