"""What PostgreSQL itself says of queries that lb calls reads.

Takes a connection string and a file of statements, each ended by a byte 0x1e. Every statement must parse
(pglast: PostgreSQL's own grammar) as queries that write nothing, lock nothing and make no table. Then the
server analyses it, as it does for a view, and what it stored is searched for the functions it would call:
operators, casts and aggregates are functions there, and views are followed into theirs. Prints one line for each
statement: `read`, `not: …` and why, or `skipped: …`. Nothing is left behind.
"""

import re
import sys

import pglast
import psycopg
from pglast import ast, visitors

FUNCTION = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid) (\d+)")
RELATION = re.compile(r":relid (\d+)")
COERCION = re.compile(r"\{COERCEVIAIO.*?:resulttype (\d+)")


class Grammar(visitors.Visitor):
    """Collects what makes a statement of a query's form more than a read."""

    def __init__(self):
        self.found = []

    def visit_SelectStmt(self, ancestors, node):
        if node.intoClause:
            self.found.append("INTO")
        if node.lockingClause:
            self.found.append("locks")

    def visit_CommonTableExpr(self, ancestors, node):
        if not isinstance(node.ctequery, ast.SelectStmt):
            self.found.append("WITH modifies")


def by_grammar(statement):
    """None if it is a read as far as grammar goes; else why not."""
    for raw in pglast.parse_sql(statement):
        if not isinstance(raw.stmt, ast.SelectStmt):
            return type(raw.stmt).__name__
        grammar = Grammar()
        grammar(raw)
        if grammar.found:
            return ", ".join(grammar.found)
    return None


class Analysis:
    """Asks a server what a query calls."""

    def __init__(self, connection):
        self.connection = connection
        self.volatile = dict(self.rows("""
            SELECT p.oid::bigint, p.oid::regprocedure::text FROM pg_proc p
            WHERE p.provolatile = 'v' OR EXISTS (
              SELECT FROM pg_aggregate a JOIN pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn)
              WHERE a.aggfnoid = p.oid AND f.provolatile = 'v')"""))
        self.io = dict(self.rows("""
            SELECT t.oid::bigint, t.typinput::text FROM pg_type t JOIN pg_proc p
            ON p.oid IN (t.typinput, t.typoutput) AND p.provolatile = 'v'"""))
        self.relations = {}

    def rows(self, query, *parameters):
        return self.connection.execute(query, parameters).fetchall()

    def of_query(self, statement):
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("SET LOCAL statement_timeout = '5s'")
            self.connection.execute(
                "CREATE VIEW public.lbt_oracle AS SELECT 1 AS one FROM (" + statement + "\n) AS lbt_query"
            )
            return self.of_rule("public.lbt_oracle")

    def of_rule(self, relation):
        trees = self.rows("SELECT ev_action::text FROM pg_rewrite WHERE ev_class = %s::text::regclass", relation)
        found = set()
        for (tree,) in trees:
            found |= self.of_tree(tree)
        return found

    def of_tree(self, tree):
        called = {int(oid) for oid in FUNCTION.findall(tree)}
        found = {self.volatile[oid] for oid in called & self.volatile.keys()}
        found |= {f"type of {self.io[int(oid)]}" for oid in COERCION.findall(tree) if int(oid) in self.io}
        for oid in set(RELATION.findall(tree)):
            found |= self.of_relation(int(oid))
        return found

    def of_relation(self, oid):
        if oid in self.relations:
            return self.relations[oid]
        kinds = self.rows(
            "SELECT relkind::text, relpersistence::text, relrowsecurity, oid::regclass::text, relname::text"
            " FROM pg_class WHERE oid = %s", oid)
        # A view's own rule names the view.
        self.relations[oid] = found = set()
        for kind, persistence, is_guarded, name, plain in kinds:
            if plain == "lbt_oracle":
                del self.relations[oid]
                continue
            if kind == "f":
                found.add(f"foreign table {name}")
            if persistence == "u":
                found.add(f"unlogged table {name}")
            if kind == "v":
                found |= self.of_rule(name)
            if is_guarded:
                policies = self.rows("SELECT polqual::text FROM pg_policy WHERE polrelid = %s AND polqual IS NOT NULL", oid)
                for (policy,) in policies:
                    found |= self.of_tree(policy)
        return found


def judge(analysis, statement):
    try:
        reason = by_grammar(statement)
    except pglast.parser.ParseError as error:
        return f"skipped: {error.args[0]}"
    if reason:
        return f"not: {reason}"
    found = set()
    for single in pglast.split(statement):
        try:
            found |= analysis.of_query(single)
        except psycopg.Error as error:
            return "skipped: " + str(error).splitlines()[0]
    return "not: calls " + ", ".join(sorted(found)) if found else "read"


def main():
    connection = psycopg.connect(sys.argv[1], autocommit=True)
    analysis = Analysis(connection)
    with open(sys.argv[2], encoding="utf-8", errors="surrogateescape") as file:
        statements = file.read().split("\x1e")
    for statement in statements:
        if statement.strip():
            print(judge(analysis, statement.strip()).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
