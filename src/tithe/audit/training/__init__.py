"""Races to a target accuracy: many small networks trained side by side, so that seeds and rates cost little."""
