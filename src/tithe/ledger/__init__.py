"""The run store: append-only events in one SQLite file, written by many processes and read while they write."""

from tithe.ledger.ledger import Event, Ledger

__all__ = ["Event", "Ledger"]
