"""Vectors once they are made: forms to store them in, files of them, exact and lexical search."""
