"""The one training loop: it takes an objective and a score function and knows no task."""
