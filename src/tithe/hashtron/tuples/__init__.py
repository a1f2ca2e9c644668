"""Tuples of input bits, each with a table of one-bit neurons: the layer behind the estimators."""
