"""In all tests of contracts pandera by itself must say what is said by asking all rules at once."""

import pandera.polars as pa
import polars as pl
import pytest

from lakehouse.checks import contract as contracts


def pandera_passes(frame: pl.DataFrame, contract: type[pa.DataFrameModel]) -> bool:
    """Whether pandera by itself finds a contract kept."""
    try:
        contract.validate(frame, lazy=True)
    except pa.errors.SchemaErrors:
        return False
    return True


@pytest.fixture(autouse=True)
def _as_pandera_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_at_once = contracts.keeps

    def both(frame: pl.DataFrame, contract: type[pa.DataFrameModel]) -> bool:
        kept = asked_at_once(frame, contract)
        assert kept == pandera_passes(frame, contract)
        return kept

    monkeypatch.setattr(contracts, "keeps", both)
