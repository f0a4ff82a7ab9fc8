"""Pure loss functions: one value per position, and one place that reduces."""
