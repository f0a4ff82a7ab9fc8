"""Metrics in numpy: per-row statistics, and a value of their sum."""
