"""The sensor that gives the metrics to the Pushgateway when a run is over, as a command does."""

import dagster as dg

from lakehouse.automation.events import events_after, newest_event
from lakehouse.settings import Settings


def build_pushing(settings: Settings) -> dg.SensorDefinition:
    """The sensor `pushed_metrics`, for settings that name a Pushgateway."""

    @dg.sensor(
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Pushes the metrics after runs, once for all that ended since the last tick.",
    )
    def pushed_metrics(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        position = int(context.cursor or 0)
        newest = newest_event(context.instance)
        over = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
        if not events_after(context.instance, position, over, 1):
            return dg.SensorResult(skip_reason="No run has ended.", cursor=str(newest))
        # Half a second of imports, which only those wait for who push.
        from lakehouse.serving.metrics import push

        if not push(settings):
            reason = "The metrics could not be pushed; it is tried again at the next tick."
            return dg.SensorResult(skip_reason=reason, cursor=str(position))
        return dg.SensorResult(skip_reason="The metrics were pushed.", cursor=str(newest))

    return pushed_metrics
