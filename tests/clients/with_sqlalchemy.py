"""SQLAlchemy and alembic at their ordinary work, over psycopg and asyncpg: HOST PORT USER PASSWORD."""

import asyncio
import sys
import threading

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL, ForeignKey, String, create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
import sqlalchemy as sa

HOST, PORT, USER, PASSWORD = sys.argv[1:5]


def url(driver):
    return URL.create(f"postgresql+{driver}", USER, PASSWORD or None, HOST, int(PORT), "postgres")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "alchemy_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "alchemy_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("alchemy_author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


def models(engine):
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    assert {"alchemy_author", "alchemy_book"} <= set(inspect(engine).get_table_names())
    with Session(engine) as session:
        for number in range(50):
            session.add(Author(name=f"author {number}", books=[Book(title=f"book {number}.{each}") for each in range(3)]))
        session.commit()
    with Session(engine) as session:
        authors = session.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id)).all()
        assert [len(author.books) for author in authors] == [3] * 50
        authors[0].books.pop()
        session.delete(authors[1])
        session.commit()
        assert session.scalar(select(func.count()).select_from(Book)) == 146
        session.add(Author(name="author 5"))
        try:
            session.commit()
            raise AssertionError("a name twice")
        except IntegrityError:
            session.rollback()
        with session.begin_nested():
            session.add(Author(name="nested"))
        session.commit()


def threads(engine):
    failed = []

    def work():
        try:
            for turn in range(20):
                with engine.begin() as connection:
                    assert connection.scalar(text("SELECT :turn + 1"), {"turn": turn}) == turn + 1
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(12)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert not failed, failed


def migration(engine):
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert not [change for change in compare_metadata(context, Base.metadata) if "alchemy" in str(change)[:200] and change[0] != "remove_table"]
        operations = Operations(context)
        operations.add_column("alchemy_book", sa.Column("pages", sa.Integer, server_default="1"))
        operations.create_index("alchemy_pages", "alchemy_book", ["pages"])
        operations.alter_column("alchemy_book", "pages", server_default=None)
    assert "pages" in {column["name"] for column in inspect(engine).get_columns("alchemy_book")}


async def asynchronous():
    engine = create_async_engine(url("asyncpg"), pool_size=4)
    sessions = async_sessionmaker(engine)

    async def work(number):
        async with sessions() as session:
            session.add(Author(name=f"async {number}", books=[Book(title="one")]))
            await session.commit()
            found = await session.scalar(select(Author).where(Author.name == f"async {number}"))
            assert found is not None

    await asyncio.gather(*(work(number) for number in range(20)))
    await engine.dispose()


engine = create_engine(url("psycopg"), pool_size=4, pool_pre_ping=True)
models(engine)
asyncio.run(asynchronous())
threads(engine)
migration(engine)
Base.metadata.drop_all(engine)
