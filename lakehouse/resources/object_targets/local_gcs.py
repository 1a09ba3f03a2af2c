"""dagster-gcp's resource for the local GCS service; importing it takes a second or two."""

from dagster_gcp import GCSResource
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client


class LocalGCSResource(GCSResource):
    """Its client talks to the service, whatever the environment says of Google and of proxies."""

    endpoint: str

    def get_client(self) -> Client:
        """A client that needs no credentials."""
        nobody = AnonymousCredentials()
        session = AuthorizedSession(nobody)
        session.trust_env = False
        return Client(
            project=self.project or "local",
            credentials=nobody,
            client_options={"api_endpoint": self.endpoint},
            _http=session,
        )
