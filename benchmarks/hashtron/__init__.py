"""The hashtron estimators against strong rivals: ``python -m benchmarks.hashtron``."""
