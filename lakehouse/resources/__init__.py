"""What the outside is: the source, archives, the Delta lake, ClickHouse, the notifier.

Here: I/O behind plain classes that know nothing of assets. Not here: what data means
(transforms/, checks/) and when things run (automation/). They are plain objects, not Dagster
config, so that no secret shows in the UI.
"""
