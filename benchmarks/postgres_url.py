"""Prints the owner's address of the local PostgreSQL service, for the baseline that loads it."""

from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings

if __name__ == "__main__":
    print(PostgresService(Settings()).owner_url().get_secret_value())
