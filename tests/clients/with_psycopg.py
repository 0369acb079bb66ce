"""psycopg 3 at its ordinary work: HOST PORT USER PASSWORD."""

import sys
import threading
import uuid
from datetime import datetime, timezone
from decimal import Decimal

import psycopg
from psycopg.types.json import Jsonb

HOST, PORT, USER, PASSWORD = sys.argv[1:5]


def connect(**more):
    return psycopg.connect(
        host=HOST, port=PORT, user=USER, password=PASSWORD, dbname="postgres", connect_timeout=10, **more
    )


def types_and_prepared_statements():
    row = (7, "sieben", Decimal("7.70"), b"\0\xff", [1, None, 3], uuid.UUID(int=7), datetime(2024, 2, 29, tzinfo=timezone.utc), {"a": [1]})
    with connect(prepare_threshold=2) as connection:
        connection.execute("DROP TABLE IF EXISTS psycopg_rows")
        connection.execute(
            "CREATE TABLE psycopg_rows (a int PRIMARY KEY, b text, c numeric, d bytea, e int[], f uuid, g timestamptz, h jsonb)"
        )
        connection.commit()
        for number in range(20):
            values = (number, *row[1:7], Jsonb(row[7]))
            connection.execute("INSERT INTO psycopg_rows VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", values)
            connection.commit()
        for binary in (False, True):
            for _ in range(10):
                got = connection.execute("SELECT * FROM psycopg_rows WHERE a = %s", (7,), binary=binary).fetchone()
                assert got == row, got
                connection.commit()


def errors_and_savepoints():
    with connect() as connection:
        try:
            connection.execute("INSERT INTO psycopg_rows (a) VALUES (1)")
            raise AssertionError("a second row with the same key")
        except psycopg.errors.UniqueViolation as error:
            assert error.sqlstate == "23505" and error.diag.constraint_name == "psycopg_rows_pkey"
        connection.rollback()
        with connection.transaction():
            connection.execute("INSERT INTO psycopg_rows (a) VALUES (100)")
            try:
                with connection.transaction():
                    connection.execute("SELECT 1 / 0")
            except psycopg.errors.DivisionByZero:
                pass
            connection.execute("INSERT INTO psycopg_rows (a) VALUES (101)")
        assert connection.execute("SELECT count(*) FROM psycopg_rows WHERE a >= 100").fetchone() == (2,)


def pipeline_mode():
    with connect(autocommit=True, prepare_threshold=0) as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int * 2", (number,)) for number in range(200)]
        assert [cursor.fetchone()[0] for cursor in cursors] == [2 * number for number in range(200)]
    with connect(autocommit=True) as connection:
        try:
            with connection.pipeline():
                connection.execute("SELECT 1 / 0")
                connection.execute("SELECT 1")
            raise AssertionError("an error in a pipeline")
        except psycopg.errors.DivisionByZero:
            pass
        assert connection.execute("SELECT 5").fetchone() == (5,)


def executemany_and_copy():
    with connect() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO psycopg_rows (a) VALUES (%s)", [(number,) for number in range(1000, 1500)])
        with cursor.copy("COPY psycopg_rows (a, b) FROM STDIN") as copy:
            for number in range(2000, 4000):
                copy.write_row((number, "x" * 100))
        connection.commit()
        with cursor.copy("COPY (SELECT a, b FROM psycopg_rows WHERE a >= 2000 ORDER BY a) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert rows == [(number, "x" * 100) for number in range(2000, 4000)]


def server_side_cursor():
    with connect() as connection, connection.cursor(name="many") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 5000 * 5001 // 2


def notifications():
    with connect(autocommit=True) as listener, connect(autocommit=True) as speaker:
        listener.execute("LISTEN psycopg_news")
        speaker.execute("SELECT pg_notify('psycopg_news', 'hello')")
        heard = next(listener.notifies(timeout=10, stop_after=1))
        assert heard.payload == "hello"


def cancellation():
    with connect() as connection:
        timer = threading.Timer(0.3, lambda: connection.cancel_safe(timeout=10))
        timer.start()
        try:
            connection.execute("SELECT pg_sleep(60)")
            raise AssertionError("it was not cancelled")
        except psycopg.errors.QueryCanceled:
            connection.rollback()
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def many_at_once():
    failed = []

    def work(number):
        try:
            with connect(prepare_threshold=0, application_name=f"worker {number}") as connection:
                for turn in range(50):
                    got = connection.execute("SELECT %s::int, current_setting('application_name')", (turn,)).fetchone()
                    assert got == (turn, f"worker {number}"), got
                    connection.commit()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed, failed


def wrong_password_is_told():
    if not PASSWORD:
        return
    try:
        psycopg.connect(host=HOST, port=PORT, user=USER, password="wrong", dbname="postgres")
        raise AssertionError("a wrong password was taken")
    except psycopg.OperationalError as error:
        assert "password" in str(error), error


types_and_prepared_statements()
errors_and_savepoints()
pipeline_mode()
executemany_and_copy()
server_side_cursor()
notifications()
cancellation()
many_at_once()
wrong_password_is_told()
