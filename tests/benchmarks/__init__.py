"""Tests of what benchmarks do, at a size that says nothing of speed."""
