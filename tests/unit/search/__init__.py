"""Tests of strings to ids: tokenizer, ragged batches, batches, packing."""
