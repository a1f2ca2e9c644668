"""Backward training: what is known of each neuron, how large it may grow, and which is trained next."""
