"""What is published in PostgreSQL: whole months or none, whatever happens on the way."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date, datetime, timedelta
from multiprocessing import Process, get_context
from pathlib import Path
from threading import Event

import polars as pl
import psutil
import psycopg
import pytest
from psycopg import sql

from lakehouse.errors import LakehouseError, UnavailableError, UsageError
from lakehouse.resources import postgres as module
from lakehouse.resources.postgres import Postgres, PostgresTable, Rows
from lakehouse.services.postgres import PostgresService
from lakehouse.settings import Settings

TRIPS = PostgresTable(
    schema="taxi",
    name="trips",
    columns={
        "month": "date",
        "pickup": "timestamp without time zone",
        "zone": "integer",
        "total": "double precision",
        "disputed": "boolean",
        "note": "text",
    },
    indexes=(("pickup",), ("zone", "pickup")),
    comment="One row for each trip; it's a test.",
)
JANUARY, FEBRUARY = date(2024, 1, 1), date(2024, 2, 1)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[PostgresService]:
    home = tmp_path_factory.mktemp("home")
    service = PostgresService(Settings(home=home, postgres_port=free_port()))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def settings(service: PostgresService) -> Iterator[Settings]:
    """The module's server, without the tables of other tests."""
    yield Settings(postgres_url=service.owner_url())
    with psycopg.connect(service.owner_url().get_secret_value()) as connection:
        for schema, name in tables(connection):
            drop = sql.SQL("DROP TABLE IF EXISTS {} CASCADE")
            connection.execute(drop.format(sql.Identifier(schema, name)))
        connection.execute("DROP SCHEMA IF EXISTS new")


@pytest.fixture
def postgres(settings: Settings) -> Postgres:
    return Postgres(settings)


@pytest.fixture
def reader(service: PostgresService) -> Iterator[psycopg.Connection]:
    with psycopg.connect(service.status().address, autocommit=True) as connection:
        yield connection


def tables(connection: psycopg.Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT schemaname, tablename FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
    ).fetchall()


def trips(zone: int, rows: int = 3, first: date = JANUARY) -> pl.DataFrame:
    start = datetime(first.year, first.month, 1, 8, 30)
    return pl.DataFrame(
        {
            "pickup": [start + timedelta(seconds=n % 1000) for n in range(rows)],
            "zone": pl.Series([zone] * rows, dtype=pl.Int64),
            "total": 12.5,
            "disputed": False,
            "note": "a note",
        }
    )


def replace(postgres: Postgres, month: date, *batches: pl.DataFrame) -> int:
    return postgres.replace_month(TRIPS, month, batches, sum(map(len, batches)), "run")


def zones(postgres: Postgres) -> list[tuple]:
    return postgres.query(
        "SELECT month, zone, count(*) FROM taxi.trips GROUP BY 1, 2 ORDER BY 1, 2"
    ).rows


def table_names(postgres: Postgres) -> list[str]:
    with postgres.connection() as connection:
        return [name for _, name in tables(connection)]


def test_a_month_published_twice_has_its_rows_once(postgres: Postgres) -> None:
    for _ in range(2):
        assert replace(postgres, JANUARY, trips(1), trips(2, rows=2)) == 5
        assert zones(postgres) == [(JANUARY, 1, 3), (JANUARY, 2, 2)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


def test_new_rows_take_the_place_of_the_old_ones_of_their_month_only(postgres: Postgres) -> None:
    replace(postgres, JANUARY, trips(1))
    replace(postgres, FEBRUARY, trips(2))
    replace(postgres, JANUARY, trips(3, rows=1))
    assert zones(postgres) == [(JANUARY, 3, 1), (FEBRUARY, 2, 3)]
    assert postgres.months(TRIPS) == {JANUARY: 1, FEBRUARY: 3}


@pytest.mark.parametrize("batches", [(), (trips(1).clear(),)])
def test_a_month_without_rows_is_removed(
    postgres: Postgres, batches: tuple[pl.DataFrame, ...]
) -> None:
    replace(postgres, JANUARY, trips(1))
    replace(postgres, FEBRUARY, trips(2))
    for _ in range(2):
        assert replace(postgres, JANUARY, *batches) == 0
    assert postgres.months(TRIPS) == {FEBRUARY: 3}
    assert table_names(postgres) == ["trips", "trips_2024_02"]


def test_a_month_tells_its_bytes(postgres: Postgres) -> None:
    replace(postgres, JANUARY, trips(1))
    replace(postgres, FEBRUARY, trips(2, rows=5000))
    january, february = (postgres.month_bytes(TRIPS, month) for month in (JANUARY, FEBRUARY))
    assert 0 < january < february
    replace(postgres, JANUARY)
    assert postgres.month_bytes(TRIPS, JANUARY) == 0


def test_a_table_that_is_absent_has_no_months(postgres: Postgres) -> None:
    assert postgres.months(TRIPS) == {}


def test_every_value_comes_back_as_it_was(postgres: Postgres) -> None:
    texts = [
        *("", None, " ", "null", "NULL", "\\N", "\\.", "0"),
        *(
            "a,b",
            'say "no"',
            "it's",
            "two\nlines",
            "\r\n",
            "tab\t",
            "back\\slash\\n",
            "Zürich 東京 🚕",
        ),
    ]
    rows = pl.DataFrame(
        {
            "pickup": [datetime(2024, 1, 1, 0, 0, 0, 1), None, datetime(1, 1, 1)]
            + [datetime(9999, 12, 31, 23, 59, 59, 999999)] * (len(texts) - 3),
            "zone": [-(2**31), None] + [2**31 - 1] * (len(texts) - 2),
            "total": [0.1, None, -0.0, 5e-324, 1.7976931348623157e308, float("inf")]
            + [1 / 3] * (len(texts) - 6),
            "disputed": [True, None] + [False] * (len(texts) - 2),
            "note": texts,
        }
    )
    replace(postgres, JANUARY, rows)
    found = postgres.query("SELECT pickup, zone, total, disputed, note FROM taxi.trips").rows
    assert sorted(map(repr, found)) == sorted(map(repr, rows.rows()))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (trips(1).drop("note"), "other columns than the table: note"),
        (trips(1).with_columns(extra=1), "other columns than the table: extra"),
        (trips(1).with_columns(month=JANUARY), "other columns than the table: month"),
        (trips(1).with_columns(zone=pl.lit(2**31)), "failed in column 'zone'"),
        (trips(1).with_columns(zone=pl.lit(1.5)), r"zone of .* is Float64 and should be integer"),
        (trips(1).with_columns(disputed=pl.lit("no")), "disputed of .* should be boolean"),
        (trips(1).with_columns(pl.col("pickup").dt.cast_time_unit("ns")), "should be timestamp"),
        (trips(1).with_columns(pl.col("pickup").dt.replace_time_zone("UTC")), "should be timest"),
        (trips(1).with_columns(note=pl.lit("a\0b")), "refuses the rows .* invalid byte sequence"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_published(
    postgres: Postgres, rows: pl.DataFrame, reason: str
) -> None:
    replace(postgres, JANUARY, trips(1))
    with pytest.raises(LakehouseError, match=reason):
        replace(postgres, JANUARY, trips(2), rows)
    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


@pytest.mark.parametrize("rows", [2, 4])
def test_another_number_of_rows_than_promised_is_not_published(
    postgres: Postgres, rows: int
) -> None:
    replace(postgres, JANUARY, trips(1))
    with pytest.raises(LakehouseError, match=f"holds 3 rows for 2024-01 .* should hold {rows}"):
        postgres.replace_month(TRIPS, JANUARY, [trips(2)], rows, "run")
    assert zones(postgres) == [(JANUARY, 1, 3)]


def test_what_goes_wrong_while_rows_are_made_is_passed_on(postgres: Postgres) -> None:
    def failing() -> Iterator[pl.DataFrame]:
        yield trips(2)
        raise KeyError("from the caller")

    replace(postgres, JANUARY, trips(1))
    with pytest.raises(KeyError, match="from the caller"):
        postgres.replace_month(TRIPS, JANUARY, failing(), 3, "run")
    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


def test_columns_and_indexes_that_are_new_are_added(postgres: Postgres) -> None:
    replace(postgres, JANUARY, trips(1))
    wider = PostgresTable(
        **vars(TRIPS)
        | {"columns": TRIPS.columns | {"tip": "double precision"}, "indexes": (("tip",),)}
    )
    rows = trips(2).with_columns(tip=pl.lit(1.5))
    postgres.replace_month(wider, FEBRUARY, [rows], 3, "run")
    replace(postgres, date(2024, 3, 1), trips(3))  # from a program that does not know the column
    found = postgres.query("SELECT DISTINCT month, tip FROM taxi.trips ORDER BY 1").rows
    assert found == [(JANUARY, None), (FEBRUARY, 1.5), (date(2024, 3, 1), None)]


def test_each_partition_has_each_index_once(postgres: Postgres) -> None:
    for _ in range(2):
        replace(postgres, JANUARY, trips(1))
    found = postgres.query(
        "SELECT tablename, count(*) FROM pg_indexes WHERE schemaname = 'taxi' GROUP BY 1 ORDER BY 1"
    )
    assert found.rows == [("trips", 2), ("trips_2024_01", 2)]
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert postgres.query(invalid).rows == [(0,)]


def test_a_month_is_read_without_the_others(postgres: Postgres) -> None:
    replace(postgres, JANUARY, trips(1))
    replace(postgres, FEBRUARY, trips(2))
    plan = str(postgres.query("EXPLAIN SELECT * FROM taxi.trips WHERE month = '2024-02-01'").rows)
    assert "trips_2024_02" in plan
    assert "trips_2024_01" not in plan


def test_a_column_of_another_type_is_an_error_that_says_what_to_do(postgres: Postgres) -> None:
    postgres.ensure_table(TRIPS)
    other = PostgresTable(**vars(TRIPS) | {"columns": TRIPS.columns | {"zone": "bigint"}})
    with pytest.raises(LakehouseError, match=r"zone of .* is integer and should be bigint: drop"):
        postgres.ensure_table(other)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "a b"}, "not an identifier"),
        ({"name": 'a"b'}, "not an identifier"),
        ({"name": "a" * 46}, "longer than 45"),
        ({"columns": {"month": "date", "a;b": "text"}}, "not an identifier"),
        ({"columns": {"month": "date", "a": "money"}}, "'money' is not among the types"),
        ({"columns": {"month": "text"}}, "'month' is not a column of type date"),
        ({"indexes": (("absent",),)}, "'absent' is indexed"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(changed: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PostgresTable(**vars(TRIPS) | changed)


def test_the_longest_name_leaves_room_for_the_month(postgres: Postgres) -> None:
    longest = PostgresTable(**vars(TRIPS) | {"name": "t" * 45})
    for month in (JANUARY, FEBRUARY):
        postgres.replace_month(longest, month, [trips(1)], 3, "run")
    assert postgres.months(longest) == {JANUARY: 3, FEBRUARY: 3}


def test_a_month_begins_on_its_first_day(postgres: Postgres) -> None:
    with pytest.raises(ValueError, match="not the first day"):
        postgres.replace_month(TRIPS, date(2024, 1, 2), [], 0, "run")


def test_a_partition_and_its_connection_carry_the_run(postgres: Postgres) -> None:
    postgres.replace_month(TRIPS, JANUARY, [trips(1)], 3, "it's run 7")
    comment = postgres.query("SELECT obj_description('taxi.trips_2024_01'::regclass)").rows
    assert comment == [("Made by run it's run 7.",)]
    with postgres.connection("run-7") as connection:
        shown = connection.execute("SHOW application_name").fetchone()
    assert shown == ("lakehouse run-7",)


def test_a_reader_sees_the_old_month_or_the_new_one_and_nothing_else(
    postgres: Postgres, reader: psycopg.Connection
) -> None:
    sizes = (1000, 3000)
    replace(postgres, JANUARY, trips(0, rows=sizes[0]))
    done = Event()

    def read() -> list[tuple]:
        seen = []
        while not done.is_set():
            count = "SELECT count(*), count(DISTINCT zone) FROM taxi.trips"
            seen.append(reader.execute(count).fetchone())
        return seen

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        try:
            for turn in range(10):
                replace(postgres, JANUARY, trips(turn, rows=sizes[(turn + 1) % 2]))
        finally:
            done.set()
        seen = reading.result()
    assert set(seen) == {(size, 1) for size in sizes}
    assert len(seen) > 20


def test_a_transaction_that_began_before_finds_the_whole_month_too(
    postgres: Postgres, reader: psycopg.Connection
) -> None:
    replace(postgres, JANUARY, trips(1))
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT 1 FROM pg_class")  # from here on it sees what is there now
    replace(postgres, JANUARY, trips(2, rows=4))
    assert reader.execute("SELECT count(*) FROM taxi.trips").fetchone() == (4,)


def test_a_reader_who_takes_long_is_waited_for(
    postgres: Postgres, reader: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", "100ms")
    replace(postgres, JANUARY, trips(1))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM taxi.trips")
    with ThreadPoolExecutor() as pool:
        replacement = pool.submit(replace, postgres, JANUARY, trips(2))
        time.sleep(1)
        assert not replacement.done()
        assert zones(postgres) == [(JANUARY, 1, 3)]
        reader.execute("COMMIT")
        assert replacement.result() == 3
    assert zones(postgres) == [(JANUARY, 2, 3)]


def test_a_reader_who_never_ends_is_named_as_the_reason(
    postgres: Postgres, reader: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(module, "_LOCK_PATIENCE_SECONDS", 0.2)
    replace(postgres, JANUARY, trips(1))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM taxi.trips")
    with pytest.raises(UnavailableError, match=r"Readers kept .* in PostgreSQL busy"):
        replace(postgres, JANUARY, trips(2))
    reader.execute("COMMIT")
    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


def replace_often(settings: Settings, worker: int) -> None:
    """Publishes the shared January and a month of its own, again and again."""
    postgres = Postgres(settings)
    for _ in range(3):
        for month in (JANUARY, date(2024, 2 + worker, 1)):
            replace(postgres, month, trips(worker, rows=100 + worker))


def test_three_processes_at_once_leave_what_one_leaves(
    postgres: Postgres, settings: Settings
) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(replace_often, settings, worker) for worker in range(3)]:
            done.result()
    first, *others = zones(postgres)
    assert first == (JANUARY, first[1], 100 + first[1])
    assert others == [(date(2024, 2 + n, 1), n, 100 + n) for n in range(3)]
    assert len(table_names(postgres)) == 5


def test_a_second_run_of_a_month_waits_and_other_months_do_not(postgres: Postgres) -> None:
    loading, go_on, second_began = Event(), Event(), Event()

    def first() -> Iterator[pl.DataFrame]:
        yield trips(1)
        loading.set()
        assert go_on.wait(30)

    def second() -> Iterator[pl.DataFrame]:
        second_began.set()
        yield trips(2)

    with ThreadPoolExecutor() as pool:
        try:
            one = pool.submit(postgres.replace_month, TRIPS, JANUARY, first(), 3, "one")
            assert loading.wait(30)
            two = pool.submit(postgres.replace_month, TRIPS, JANUARY, second(), 3, "two")
            replace(postgres, FEBRUARY, trips(3))
            assert not second_began.wait(0.3)
        finally:
            go_on.set()
        assert (one.result(), two.result()) == (3, 3)
    assert zones(postgres) == [(JANUARY, 2, 3), (FEBRUARY, 3, 3)]


def test_tables_that_many_create_at_once_are_created_once(postgres: Postgres) -> None:
    with ThreadPoolExecutor(8) as pool:
        for schema in ("taxi", "new"):
            names = [f"{schema}_{number}" for number in range(4)]
            made = [PostgresTable(**vars(TRIPS) | {"schema": schema, "name": n}) for n in names]
            list(pool.map(postgres.ensure_table, [*made, *made]))
    assert table_names(postgres) == [f"{s}_{n}" for s in ("new", "taxi") for n in range(4)]


def load_without_end(settings: Settings) -> None:
    def batches() -> Iterator[pl.DataFrame]:
        while True:
            yield trips(9, rows=1000)

    Postgres(settings).replace_month(TRIPS, JANUARY, batches(), 1, "killed")


def test_a_process_killed_while_it_loads_leaves_nothing(
    postgres: Postgres, settings: Settings
) -> None:
    replace(postgres, JANUARY, trips(1))
    process: Process = get_context("spawn").Process(target=load_without_end, args=(settings,))
    process.start()
    copying = "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 1000"
    while postgres.query(copying).rows == [(0,)]:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()

    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert replace(postgres, JANUARY, trips(2)) == 3
    assert zones(postgres) == [(JANUARY, 2, 3)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


@pytest.fixture
def local(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Settings]:
    """A home with a local service of its own, not started yet."""
    settings = Settings(home=tmp_path / "home", postgres_port=free_port())
    yield settings
    PostgresService(settings).stop()


def power_off(service: PostgresService) -> None:
    server = psutil.Process(service.status().pid)
    for process in (server, *server.children(recursive=True)):
        process.kill()
    server.wait(10)


@pytest.mark.parametrize("end", [PostgresService.stop, power_off])
def test_a_server_that_ends_while_rows_are_loaded_keeps_the_old_month(
    local: Settings, end: Callable[[PostgresService], object], capfd: pytest.CaptureFixture[str]
) -> None:
    def batches() -> Iterator[pl.DataFrame]:
        yield trips(2, rows=100_000)
        end(PostgresService(local))
        for _ in range(50):
            yield trips(2, rows=100_000)

    postgres = Postgres(local)
    replace(postgres, JANUARY, trips(1))
    with pytest.raises(UnavailableError, match="broke off the connection") as error:
        postgres.replace_month(TRIPS, JANUARY, batches(), 5_100_000, "run")
    assert "LAKEHOUSE_POSTGRES_URL" in str(error.value)
    assert capfd.readouterr().err == ""

    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert replace(postgres, JANUARY, trips(2)) == 3
    assert zones(postgres) == [(JANUARY, 2, 3)]
    assert table_names(postgres) == ["trips", "trips_2024_01"]


def test_parameters_are_values_and_never_sql(postgres: Postgres) -> None:
    text = "'; DROP TABLE taxi.trips; --"
    assert postgres.query("SELECT %s AS a, 100 %% 7 AS b", (text,)) == Rows(("a", "b"), [(text, 2)])
    assert postgres.query("SELECT %(n)s::int AS n", {"n": 7}).rows == [(7,)]
    assert postgres.query("SELECT '100%' AS share").rows == [("100%",)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM missing", 'relation "missing" does not exist'),
        ("SELECT 1 / 0", "division by zero"),
        ("DROP TABLE taxi.trips", "cannot execute DROP TABLE in a read-only transaction"),
        ("DELETE FROM taxi.trips", "cannot execute DELETE in a read-only transaction"),
    ],
)
def test_a_query_that_postgresql_refuses_is_answered_with_its_own_words(
    postgres: Postgres, query: str, message: str
) -> None:
    replace(postgres, JANUARY, trips(1))
    with pytest.raises(UsageError) as error:
        postgres.query(query)
    assert str(error.value) == message
    assert zones(postgres) == [(JANUARY, 1, 3)]


def test_the_reader_reads_what_is_published_and_changes_nothing(
    postgres: Postgres, service: PostgresService, reader: psycopg.Connection
) -> None:
    replace(postgres, JANUARY, trips(1))
    assert reader.execute("SELECT count(*) FROM taxi.trips").fetchone() == (3,)
    account = Postgres(Settings(postgres_url=service.status().address))
    with pytest.raises(LakehouseError, match=r"refuses the account: .* schema taxi: grant"):
        replace(account, FEBRUARY, trips(2))
    assert postgres.months(TRIPS) == {JANUARY: 3}


def test_where_nothing_listens_it_is_said_how_to_start_it(free_port: Callable[[], int]) -> None:
    port = free_port()
    settings = Settings(postgres_url=f"postgresql://me:sesame@127.0.0.1:{port}/lakehouse")
    with pytest.raises(UnavailableError) as error:
        Postgres(settings).query("SELECT 1")
    assert str(error.value) == (
        f"PostgreSQL at 127.0.0.1:{port} does not answer: "
        "start it with `lakehouse up` or check LAKEHOUSE_POSTGRES_URL."
    )


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ("lakehouse:sesame@127.0.0.1:{port}/lakehouse", 'authentication failed for user "lakehou'),
        ("{owner}@127.0.0.1:{port}/missing", 'database "missing" does not exist'),
        ("stranger:sesame@127.0.0.1:{port}/lakehouse", "no pg_hba.conf entry"),
    ],
)
def test_a_refused_connection_is_one_sentence_without_the_password(
    service: PostgresService, account: str, reason: str
) -> None:
    owner = service.owner_url().get_secret_value().split("//")[1].partition("@")[0]
    url = "postgresql://" + account.format(port=service.port, owner=owner)
    with pytest.raises(LakehouseError, match=r"refuses the connection: .*: check LAKEHOU") as error:
        Postgres(Settings(postgres_url=url)).query("SELECT 1")
    message = str(error.value)
    assert reason in message
    assert not isinstance(error.value, UnavailableError)
    assert "\n" not in message
    assert "sesame" not in message
    assert owner.partition(":")[2] not in message


def test_a_server_that_is_full_may_have_room_in_a_moment(
    postgres: Postgres, service: PostgresService
) -> None:
    with postgres.connection() as connection:
        connection.execute("ALTER ROLE reader CONNECTION LIMIT 0")
    try:
        with pytest.raises(UnavailableError, match=r"too many connections .*: try again"):
            Postgres(Settings(postgres_url=service.status().address)).query("SELECT 1")
    finally:
        with postgres.connection() as connection:
            connection.execute("ALTER ROLE reader CONNECTION LIMIT -1")


@pytest.mark.parametrize(
    "address",
    ["http://me:sesame@host/db", "postgresql//me:sesame@host", "postgresql://me:se same@h"],
)
def test_an_address_that_is_not_one_is_a_mistake_of_the_caller(address: str) -> None:
    with pytest.raises(UsageError, match="LAKEHOUSE_POSTGRES_URL must be") as error:
        Postgres(Settings(postgres_url=address)).query("SELECT 1")
    assert "same" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.fixture
def small_disk(new_disk: Callable[[str], Path]) -> Path:
    """A disk of two megabytes that the server may write to."""
    return new_disk("2m")


def test_a_full_disk_is_said_and_the_old_month_stays(local: Settings, small_disk: Path) -> None:
    postgres = Postgres(local)
    replace(postgres, JANUARY, trips(1))
    folder = small_disk / "tablespace"
    folder.mkdir()
    os.chown(folder, PostgresService(local).data.stat().st_uid, -1)
    url = PostgresService(local).owner_url().get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(folder)))
        connection.execute("ALTER ROLE lakehouse SET default_tablespace = small")

    with pytest.raises(LakehouseError, match=r"disk of PostgreSQL at .* is full") as error:
        replace(postgres, JANUARY, trips(2, rows=100_000))
    assert not isinstance(error.value, UnavailableError)
    assert zones(postgres) == [(JANUARY, 1, 3)]
    assert replace(postgres, JANUARY, trips(3)) == 3
    PostgresService(local).stop()
