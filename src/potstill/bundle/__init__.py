"""The model folder: its layout as data, read, write, card. No pickle, no remote code."""
