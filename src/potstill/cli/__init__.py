"""Flags, rendering and progress: the only place that prints."""
