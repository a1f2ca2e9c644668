"""Training a network a neuron at a time, backward or forward, so that nothing that was learned can be lost."""
