"""Engines behind one interface, and the model that a user holds."""
