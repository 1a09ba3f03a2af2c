"""How data changes: pure Polars functions and the columns they speak of. No Dagster, no I/O."""
