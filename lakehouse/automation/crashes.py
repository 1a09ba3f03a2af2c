"""The sensor that tells which runs are over because their process was killed."""

import dagster as dg

from lakehouse.processes import report_killed_runs


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def killed_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Marks runs as failed whose process was killed; Dagster then starts its own ones again."""
    return dg.SkipReason(f"{report_killed_runs(context.instance)} runs were killed.")
