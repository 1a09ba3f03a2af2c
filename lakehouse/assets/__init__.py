"""What exists: one module for each data set. Each asset is short: read, transform, write, report."""
