"""asyncpg at its ordinary work, with its statement cache on: HOST PORT USER PASSWORD."""

import asyncio
import io
import sys
from datetime import datetime, timezone
from decimal import Decimal

import asyncpg

HOST, PORT, USER, PASSWORD = sys.argv[1:5]
WHERE = dict(host=HOST, port=int(PORT), user=USER, password=PASSWORD or None, database="postgres", timeout=10)


async def types_and_statement_cache():
    connection = await asyncpg.connect(**WHERE)
    await connection.execute("DROP TABLE IF EXISTS asyncpg_rows")
    await connection.execute("CREATE TABLE asyncpg_rows (a int PRIMARY KEY, b text, c numeric, d bytea, e int[], g timestamptz)")
    row = ("sieben", Decimal("7.70"), b"\0\xff", [1, None, 3], datetime(2024, 2, 29, tzinfo=timezone.utc))
    for number in range(20):
        await connection.execute("INSERT INTO asyncpg_rows VALUES ($1, $2, $3, $4, $5, $6)", number, *row)
    statement = await connection.prepare("SELECT * FROM asyncpg_rows WHERE a = $1")
    for number in range(20):
        got = await statement.fetchrow(number)
        assert tuple(got) == (number, *row), got
    assert await connection.fetchval("SELECT count(*) FROM asyncpg_rows") == 20
    # The table changes under the cached statement: asyncpg prepares it anew, as it does without a proxy.
    await connection.execute("ALTER TABLE asyncpg_rows ADD COLUMN h int")
    try:
        await connection.fetchrow("SELECT * FROM asyncpg_rows WHERE a = $1", 1)
    except asyncpg.InvalidCachedStatementError:
        pass
    assert len(await connection.fetchrow("SELECT * FROM asyncpg_rows WHERE a = $1", 1)) == 7
    await connection.close()


async def transactions_and_errors():
    connection = await asyncpg.connect(**WHERE)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO asyncpg_rows (a) VALUES (100)")
            await connection.execute("INSERT INTO asyncpg_rows (a) VALUES (100)")
        raise AssertionError("a second row with the same key")
    except asyncpg.UniqueViolationError as error:
        assert error.sqlstate == "23505"
    async with connection.transaction(isolation="serializable"):
        await connection.execute("INSERT INTO asyncpg_rows (a) VALUES (100)")
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            pass
    assert await connection.fetchval("SELECT count(*) FROM asyncpg_rows WHERE a = 100") == 1
    async with connection.transaction():
        total = 0
        async for record in connection.cursor("SELECT generate_series(1, 1000)", prefetch=100):
            total += record[0]
        assert total == 500500
    await connection.close()


async def bulk():
    connection = await asyncpg.connect(**WHERE)
    await connection.executemany("INSERT INTO asyncpg_rows (a) VALUES ($1)", [(number,) for number in range(1000, 1500)])
    records = [(number, "x" * 100) for number in range(2000, 4000)]
    await connection.copy_records_to_table("asyncpg_rows", records=records, columns=["a", "b"])
    out = io.BytesIO()
    await connection.copy_from_query("SELECT a, b FROM asyncpg_rows WHERE a >= $1 ORDER BY a", 2000, output=out)
    assert out.getvalue().decode() == "".join(f"{a}\t{b}\n" for a, b in records)
    await connection.close()


async def notifications_and_cancellation():
    connection, other = await asyncpg.connect(**WHERE), await asyncpg.connect(**WHERE)
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("asyncpg_news", lambda *event: heard.done() or heard.set_result(event[3]))
    await other.execute("NOTIFY asyncpg_news, 'hello'")
    assert await asyncio.wait_for(heard, 10) == "hello"
    try:
        # asyncpg cancels the query on the server when its time is up.
        await other.execute("SELECT pg_sleep(60)", timeout=0.3)
        raise AssertionError("it was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await other.fetchval("SELECT 1") == 1
    await connection.close()
    await other.close()


async def pool():
    async with asyncpg.create_pool(**WHERE, min_size=4, max_size=8) as pool:
        async def work(number):
            for turn in range(20):
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SELECT $1::int + $2::int", number, turn) == number + turn
                    async with connection.transaction():
                        await connection.execute("SET LOCAL work_mem = '7MB'")
                        assert await connection.fetchval("SHOW work_mem") == "7MB"

        await asyncio.gather(*(work(number) for number in range(24)))


async def main():
    await types_and_statement_cache()
    await transactions_and_errors()
    await bulk()
    await notifications_and_cancellation()
    await pool()


asyncio.run(main())
