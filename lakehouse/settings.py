"""All configuration, typed, from LAKEHOUSE_* variables. Secrets are never printed."""

import re
from functools import cached_property
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BRANCHES = ("bigquery", "postgres")
"""What can be switched off."""

_CHECKOUT = Path(__file__).resolve().parent.parent

_ACCOUNT = re.compile(
    r"(?!abfss?:)\w+://[^/?#]*@|\w+://(\[[^]]*\])?+[^/?#]*:(?!\d+([/?#]|$))", re.ASCII
)
"""How an address begins that holds a user or a password; Azure's have a container before an @."""

_SHOWABLE = re.compile(
    r"https?://([^\s/?#]*@)?(\[[^]\s]*\]|[^\s/?#@:]+)(:\d+)?(/\S*)?|(?!\w+://|[^/]*:[^/]*@).*"
)
"""An address in which it is plain where an account ends; or a folder, or a host and a port."""

_DATABASE = re.compile(r"[\w+]+://([^\s@?]*@)?(\[[^]\s]*\]|[^\s/?@:]*)(:\d+)?([/?]\S*)?")


def _default_home() -> Path:
    """`.lakehouse` in the checkout; in the working folder where the package was installed."""
    root = _CHECKOUT if (_CHECKOUT / "workspace.yaml").exists() else Path.cwd()
    return root / ".lakehouse"


class Settings(BaseSettings):
    """Every setting; each is read from the environment as `LAKEHOUSE_` and its name."""

    model_config = SettingsConfigDict(
        env_prefix="LAKEHOUSE_", env_ignore_empty=True, hide_input_in_errors=True
    )

    home: Path = Field(default_factory=_default_home)
    """All state: landed files, the lake, Dagster's history, the local services' data."""

    source_mirror: str | None = Field(default=None, repr=False)
    """A folder or an address laid out as host/path, read instead of the internet; the address may
    hold an account, as `https://user:password@host`."""

    lake_uri: str | None = None
    """Where the Delta tables live: a folder, `s3://…` or `gs://…`; default `<home>/lake`."""

    lake_storage_options: dict[str, SecretStr] = {}
    """delta-rs storage options, as JSON; the rest is read from the cloud's own variables."""

    clickhouse_url: str | None = None
    """Address of a ClickHouse server (`https://host:8443`); default the local service."""

    clickhouse_port: int = 18123
    """HTTP port of the local ClickHouse service, on 127.0.0.1."""

    clickhouse_user: str = "default"
    clickhouse_password: SecretStr = SecretStr("")
    clickhouse_reader_user: str = "reader"
    """The account that `lakehouse query` and all readers use; it can only read."""
    clickhouse_reader_password: SecretStr = SecretStr("")

    objects: str | None = None
    """Where cleaned objects go, as folders, `gs://bucket/prefix` and `s3://bucket/prefix`,
    separated by white space; the first is what is read. Default the local GCS service."""

    gcs_port: int = 18124
    """Port of the local GCS service, on 127.0.0.1."""

    bigquery_project: str | None = None
    """The Google Cloud project of the warehouse; default the local BigQuery service."""

    bigquery_dataset: str = "taxi"
    bigquery_location: str | None = None
    """Where the dataset is made, such as `EU`; it must be where the bucket is."""

    bigquery_port: int = 18125
    """Port of the local BigQuery service, on 127.0.0.1."""

    postgres_url: SecretStr = SecretStr("")
    """`postgresql://user:password@host/database` for taxi trips; default the local service."""

    postgres_port: int = 18126
    """Port of the local PostgreSQL service, on 127.0.0.1."""

    without: str = ""
    """What is switched off, separated by white space: `bigquery`, `postgres`."""

    taxi_format: Literal["parquet", "csv"] = "parquet"
    """Which form of the taxi months is read: the publisher's Parquet, or the older `.csv.gz`."""

    alert_urls: SecretStr = SecretStr("")
    """Where alerts go: apprise addresses, separated by white space."""

    dagster_postgres_url: SecretStr = SecretStr("")
    """Keeps Dagster's history in PostgreSQL instead of SQLite below the home."""

    dagster_url: str = "http://127.0.0.1:3000"
    """Where people find Dagster's UI; alerts link to it."""

    serve_host: str = "127.0.0.1"
    """Where `lakehouse serve` listens."""
    serve_port: int = 18127

    api_token: SecretStr = SecretStr("")
    """What everybody must show who asks `lakehouse serve` for something; empty lets all in."""

    cors_origins: str = ""
    """Pages of other origins that may read the API, such as `https://charts.example.org`,
    separated by white space."""

    prices: dict[str, float] = {}
    """Dollars, as JSON, in the place of those that `lakehouse status --cost` reckons with:
    `storage_gb_month`, `database_gb_month`, `bigquery_gb_month`, `bigquery_slot_hour`,
    `run_hour`."""

    pushgateway_url: str | None = Field(default=None, repr=False)
    """A Prometheus Pushgateway that gets the metrics after runs; it may hold an account."""

    inbox: str | None = None
    """Where dropped files are found, a folder for each data set below it; default `<home>/inbox`,
    or a bucket's prefix such as `s3://bucket/inbox`."""

    inbox_settle_seconds: float = 10.0
    """A file in the inbox is taken when it has not changed for this long."""

    @field_validator("lake_uri", "inbox", "dagster_url")
    @classmethod
    def _without_account(cls, address: str | None) -> str | None:
        """Metadata, messages and links name these as they are."""
        if address and _ACCOUNT.match(address):
            raise ValueError(
                "it holds a user or a password, which others would be shown; name the place alone"
            )
        return address

    @field_validator("source_mirror", "pushgateway_url")
    @classmethod
    def _showable(cls, address: str | None) -> str | None:
        """Messages name these without the account in them."""
        if address and not _SHOWABLE.fullmatch(address):
            raise ValueError(
                "it is no address such as https://user:password@host:8443/path; write %40 for @,"
                " %2F for / and %3A for : in the password"
            )
        return address

    @field_validator("dagster_postgres_url")
    @classmethod
    def _database(cls, address: SecretStr) -> SecretStr:
        """SQLAlchemy takes what follows a wrong character of the password for host and port."""
        text = address.get_secret_value()
        if text and not _DATABASE.fullmatch(text):
            raise ValueError(
                "it is no address such as postgresql://user:password@host:5432/database; write"
                " %40 for @ and %2F for / in the password"
            )
        return address

    @field_validator("without")
    @classmethod
    def _known_branches(cls, without: str) -> str:
        if unknown := set(without.split()) - set(BRANCHES):
            raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(BRANCHES)}")
        return without

    @cached_property
    def state(self) -> Path:
        """The home as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def lake(self) -> str:
        """Root of the Delta tables."""
        return self.lake_uri or str(self.state / "lake")

    @property
    def demo(self) -> Path:
        """The home of the demo, whose rows never mix with those of this one."""
        return self.state / "demo"

    @property
    def cache(self) -> Path:
        """The user's cache folder, shared by all checkouts; holds the services' programs."""
        return user_cache_path("lakehouse")
