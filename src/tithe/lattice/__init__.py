"""Lattice: a scheduler that runs alike work together, on threads, in processes and on Ray, and loses nothing."""

from tithe.lattice.epoch import Epoch, EpochReceipt
from tithe.lattice.lattice import Lattice
from tithe.lattice.outcome import Outcome
from tithe.lattice.task import Spawn, Task

__all__ = ["Epoch", "EpochReceipt", "Lattice", "Outcome", "Spawn", "Task"]
