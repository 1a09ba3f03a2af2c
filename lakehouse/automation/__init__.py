"""When things run and who is told: jobs, schedules, sensors, alerts."""
