"""Strings to ids: tokenizer, ragged batches, batches by token budget, packing."""
