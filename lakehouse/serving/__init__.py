"""What people and programs look at: the API, the dashboard and the metrics, over HTTP.

Here: reading what is published and what Dagster remembers, and answering with it. Not here:
anything that writes.
"""
