"""What exists, one module for each data set. Assets are short: read, transform, write, report."""
