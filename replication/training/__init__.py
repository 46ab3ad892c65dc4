"""Networks, heads, losses, the training loop and the readouts: the only room that imports torch."""
