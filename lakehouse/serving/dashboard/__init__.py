"""The dashboard at `/`: what the tables say, and how they are.

Here: pages, and how they look. Not here: what is read (readings) or how it is served (app).
"""

from functools import partial

from fastapi import FastAPI

from lakehouse.settings import Settings


def add_dashboard(app: FastAPI, settings: Settings) -> None:
    """Puts the dashboard's pages on an application, below all routes that it has already.

    It reads through the application's `state.readings` and `state.health`. NiceGUI has one set of
    pages in a process: of two applications, those of the later one count.
    """
    from fastapi.responses import RedirectResponse
    from nicegui import ui

    from lakehouse.serving.dashboard import drives, frame, health, retail, taxi

    readings = app.state.readings
    pages = [
        drives.page(readings),
        taxi.page(readings),
        retail.page(readings),
        health.page(app.state.health, settings.dagster_url),
    ]
    for page in pages:
        ui.page(page.path)(partial(frame.draw, page, pages, settings.demo))
    app.add_api_route(
        "/", lambda: RedirectResponse(pages[0].path), methods=["GET"], include_in_schema=False
    )
    frame.add_shared()
    ui.run_with(
        app,
        title="Lakehouse",
        favicon=frame.ICON,
        language="en-US",
        # The style sheet does both, light and dark.
        dark=False,
        tailwind=False,
        show_welcome_message=False,
    )
