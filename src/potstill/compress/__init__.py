"""Smaller numbers: quantized graphs, and the gate that lets them pass."""
