"""Bars: what must hold, as a command, a figure and a target. ``make bars`` measures them all."""
