"""The page that shows a comparison: one file, no script, no request."""
