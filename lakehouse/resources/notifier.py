"""People are told through apprise: Slack, e-mail, a webhook and some 180 services more."""

import logging
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

from pydantic import SecretStr

from lakehouse.errors import UnavailableError

_TIMEOUT = 10.0
"""Seconds that one message may take."""

Kind: TypeAlias = Literal["failure", "warning", "success"]

_log = logging.getLogger(__name__)


class DeliveryError(UnavailableError):
    """Some addresses did not take a message.

    Attributes:
        undelivered: The places of these addresses in the settings, counted from one.
    """

    def __init__(self, message: str, undelivered: tuple[int, ...]) -> None:
        super().__init__(message)
        self.undelivered = undelivered


class Notifier:
    """Sends messages to every address of the settings; no address ever shows in a log or error."""

    def __init__(self, urls: SecretStr) -> None:
        self._urls = urls

    def send(
        self,
        title: str,
        body: str,
        targets: Collection[int] | None = None,
        kind: Kind = "failure",
    ) -> None:
        """Sends a message; where no address is set, it is logged instead.

        Args:
            title: One line.
            body: Plain text.
            targets: Only to the addresses in these places, counted from one; default all.
            kind: How services that show it colour the message.

        Raises:
            DeliveryError: If an address did not take the message or is not understood; the others
                have got it.
        """
        addresses = dict(enumerate(self._urls.get_secret_value().split(), start=1))
        if not addresses:
            _log.warning("%s\n%s", title, body)
            return
        places = [place for place in addresses if targets is None or place in targets]

        def deliver(place: int) -> str | None:
            return _deliver(addresses[place], title, body, kind)

        # All at once: one that hangs must not hold up the others.
        with ThreadPoolExecutor() as pool:
            problems = dict(zip(places, pool.map(deliver, places), strict=True))
        refused = {place: problem for place, problem in problems.items() if problem}
        if refused:
            reasons = "; ".join(f"address {place} {problem}" for place, problem in refused.items())
            raise DeliveryError(
                f"'{title}' was not delivered to all of LAKEHOUSE_ALERT_URLS: {reasons}.",
                tuple(refused),
            )


def _deliver(address: str, title: str, body: str, kind: Kind) -> str | None:
    """Sends to one address; returns what went wrong, if anything, without the address."""
    import apprise  # takes 0.15 s, and most processes tell nobody anything

    _silence_loggers()
    service = apprise.Apprise.instantiate(address)
    if service is None:
        scheme = re.match(r"\w+://", address)
        return f"({scheme[0] if scheme else 'no scheme'}…) is not understood: correct it"
    delivered = apprise.Apprise(service).notify(
        title=title,
        body=body,
        notify_type=apprise.NotifyType(kind),
        body_format=apprise.NotifyFormat.TEXT,
        timeout=_TIMEOUT,
    )
    return None if delivered else f"({service.service_name}) did not take it: see that it is up"


def _silence_loggers() -> None:
    """Keeps the addresses, which hold secrets, out of the logs."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    # At debug level it writes the path of every request, and a webhook's path is its secret.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
