"""A lakehouse of public data sets as software-defined Dagster assets."""
