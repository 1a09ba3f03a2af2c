"""The original's way to serve the two summaries: Flask, and a new connection for each request.

    python benchmarks/original_api.py PORT CLICKHOUSE_PORT

Written anew; Flask's own server, as the original runs it. Flask comes with moto, which the tests
need.
"""

import sys

import clickhouse_connect
from flask import Flask, Response, jsonify

app = Flask(__name__)


def answer(sql: str, *names: str) -> Response:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=int(sys.argv[2]), username="reader"
    )
    rows = client.query(sql).result_rows
    client.close()
    return jsonify([dict(zip(names, map(str, row), strict=True)) for row in rows])


@app.get("/api/daily_summary")
def daily_summary() -> Response:
    return answer(
        "SELECT date, drive_count, drive_failures FROM drives.daily_summary ORDER BY date",
        *("date", "drive_count", "drive_failures"),
    )


@app.get("/api/yearly_summary")
def yearly_summary() -> Response:
    return answer(
        "SELECT year, sum(drive_days), sum(drive_failures) FROM drives.yearly_summary"
        " GROUP BY year ORDER BY year",
        *("year", "drive_count", "drive_failures"),
    )


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
