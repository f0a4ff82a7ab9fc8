"""Configurations, presets and checkpoint name tables; free of torch."""
