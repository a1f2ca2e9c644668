"""Side-by-side measurements: bars that the project sets itself, and comparisons with peers."""
