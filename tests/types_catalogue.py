"""Every type that a column can have, with the values at its corners, as text that its input function takes.

The catalogue is checked against pg_type (test_fidelity.py): a built-in type that is neither here nor in
CANNOT_BE_STORED fails the test, so that a new PostgreSQL's types are noticed.
Each type also stands in an array and in a composite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class TypeCase:
    """A type as written in SQL, with values as input text. `catalog_name` is pg_type.typname where it is built in."""

    type: str
    values: tuple[str, ...]
    catalog_name: str = ""
    since: int = 15  # the first major version that takes these values
    extension: str | None = None
    needs: str | None = None  # "xml": only where the server was built with it
    label: str = field(default="")

    @property
    def name(self) -> str:
        """A table's name for it: readable, and different for each case."""
        return f"of {self.label or self.type}"

    @property
    def is_array(self) -> bool:
        return self.type.endswith("[]") or self.type in ("int2vector", "oidvector", "labels")


CANNOT_BE_STORED = {
    "gtsvector": "internal to GiST indexes; its input function refuses everything",
    "pg_node_tree": "the catalog's own; its input function refuses everything",
    "pg_ndistinct": "the catalog's own; its input function refuses everything",
    "pg_dependencies": "the catalog's own; its input function refuses everything",
    "pg_mcv_list": "the catalog's own; its input function refuses everything",
    "pg_brin_bloom_summary": "internal to BRIN; its input function refuses everything",
    "pg_brin_minmax_multi_summary": "internal to BRIN; its input function refuses everything",
}

TEXTS = (
    "",
    " ",
    "  both  ",
    "NULL",
    "null",
    "\\N",
    "\\\\N",
    "\\.",
    "\n\\.\n",
    "\\",
    "\\\\",
    "\\x41",
    "\\101",
    "\\n",
    "\t",
    "a\tb\tc",
    "\n",
    "\r",
    "\r\n",
    "line\nline\n",
    "\b\f\v",
    '"',
    "'",
    "''",
    "{}",
    '{"a",NULL}',
    "(,)",
    ",",
    "".join(chr(code) for code in range(1, 128)),
    "é",
    "e\u0301",
    "\u00a0",
    "\u2028\u2029",
    "\ufeff",
    "\ufffd",
    "\U0001f600",
    "\U0010ffff",
    "İıŞß",
    "ﷺ",
    "x" * 3000,
    "compressible " * 20000,
)

_NUMERICS = (
    "0",
    "-0",
    "0.0",
    "0.00000000000000000000",
    "1",
    "1.0",
    "1.10",
    "-1.5",
    "NaN",
    "Infinity",
    "-Infinity",
    "9" * 1000,
    "0." + "0" * 500 + "1",
    "1e131071",
    "1e-16383",
    "12345678901234567890.123456789012345678901234567890",
)

_FLOAT8S = (
    "0",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "2.2250738585072014e-308",
    "5e-324",
    "-5e-324",
    "0.1",
    "0.30000000000000004",
    "9007199254740993",
    "1e22",
    "1e23",
    "3.141592653589793",
)

_FLOAT4S = (
    "0",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "3.4028235e38",
    "1.17549435e-38",
    "1e-45",
    "0.1",
    "16777217",
    "1e10",
)

_DATES = (
    "-infinity",
    "infinity",
    "4713-01-01 BC",
    "0001-12-31 BC",
    "0001-01-01",
    "1582-10-10",
    "2000-02-29",
    "9999-12-31",
    "10000-01-01",
    "5874897-12-31",
)

_TIMESTAMPS = (
    "-infinity",
    "infinity",
    "4713-11-24 00:00:00 BC",
    "0001-12-31 23:59:59.999999 BC",
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "2000-02-29 23:59:59.000001",
    "2016-12-31 23:59:60",
    "294276-12-31 23:59:59.999999",
)

_TIMESTAMPS_WITH_ZONE = tuple(
    value if "infinity" in value else value.replace(" BC", "+00 BC") if "BC" in value else value + "+00"
    for value in _TIMESTAMPS
)

_JSON = (
    "null",
    '""',
    "{}",
    "[]",
    "[null]",
    '{"a": 1, "a": 2,   "b": [1, 2.50, 1e3, -0]}',
    '"\\u0041\\n\\t\\\\ \\" / \\/"',
    '"\\ud83d\\ude00"',
    "123456789012345678901234567890.00100",
    '{"": {"\\\\N": "\\\\."}}',
    '{"nested": ' + '{"n": ' * 50 + "1" + "}" * 50 + "}",
)

_EVERY_BYTE = "\\x" + bytes(range(256)).hex()

BUILT_IN: tuple[TypeCase, ...] = (
    TypeCase("boolean", ("true", "false"), "bool"),
    TypeCase("bytea", ("", "\\x", "\\x00", _EVERY_BYTE, "\\x5c4e", "\\x5c2e", "\\x" + "00ff" * 5000), "bytea"),
    TypeCase('"char"', ("", "a", "\\", "\t", "\n", "\\200", "\\377", "\x7f"), "char"),
    TypeCase("name", ("", "a", "x" * 63, "a b\tc\\", "\\N", "é"), "name"),
    TypeCase("smallint", ("0", "-32768", "32767"), "int2"),
    TypeCase("integer", ("0", "-2147483648", "2147483647"), "int4"),
    TypeCase("bigint", ("0", "-9223372036854775808", "9223372036854775807"), "int8"),
    TypeCase("text", TEXTS, "text"),
    TypeCase("varchar", TEXTS, "varchar"),
    TypeCase("varchar(5)", ("", "     ", "ééééé", "\\N"), label="varchar_5"),
    TypeCase("char(5)", ("", " ", "a", "ab  c", "ééééé", "\\N", "a\t"), "bpchar", label="char_5"),
    TypeCase("bpchar", ("", "  ", "a  ", "\\N"), label="bpchar_free"),
    TypeCase("numeric", _NUMERICS, "numeric"),
    TypeCase("numeric(12,2)", ("0", "-0.01", "9999999999.99", "NaN"), label="numeric_12_2"),
    TypeCase("numeric(3,-2)", ("0", "99900", "-100"), label="numeric_3_minus_2"),
    TypeCase("numeric(3,5)", ("0", "0.00999", "-0.00001"), label="numeric_3_5"),
    TypeCase("real", _FLOAT4S, "float4"),
    TypeCase("double precision", _FLOAT8S, "float8"),
    TypeCase("money", ("0", "-92233720368547758.08", "92233720368547758.07", "-0.01"), "money"),
    TypeCase("date", _DATES, "date"),
    TypeCase("time", ("00:00:00", "23:59:59.999999", "24:00:00", "12:00:00.5"), "time"),
    TypeCase("time(0)", ("00:00:00", "24:00:00"), label="time_0"),
    TypeCase("timetz", ("00:00:00+00", "24:00:00-15:59:59", "24:00:00+15:59:59", "12:00:00.000001+05:30"), "timetz"),
    TypeCase("timestamp", _TIMESTAMPS, "timestamp"),
    TypeCase("timestamp(3)", ("2000-01-01 00:00:00.123", "infinity"), label="timestamp_3"),
    TypeCase("timestamptz", (*_TIMESTAMPS_WITH_ZONE, "2026-03-29 02:30:00 Europe/Berlin"), "timestamptz"),
    TypeCase(
        "interval",
        (
            "0",
            "-1 mons +1 day -00:00:00.000001",
            "178000000 years",
            "-178000000 years",
            "2147483647 days",
            "1 year -11 mons 30 days -25:00:00",
            "2562047788:00:54.775807",
            "-2562047788:00:54.775807",
        ),
        "interval",
    ),
    TypeCase("interval", ("infinity", "-infinity"), since=17, label="interval_infinite"),
    TypeCase("interval day to second(3)", ("1 day 02:03:04.567",), label="interval_day_to_second"),
    TypeCase("interval year", ("3 years",), label="interval_year"),
    TypeCase("bit(9)", ("000000000", "111111111", "010101010"), "bit", label="bit_9"),
    TypeCase("varbit", ("", "0", "1", "1" * 1000), "varbit"),
    TypeCase("uuid", ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"), "uuid"),
    TypeCase("json", _JSON, "json"),
    TypeCase("jsonb", _JSON, "jsonb"),
    TypeCase(
        "jsonpath",
        ("$", "strict $.a[*] ? (@ > 1.50)", '$."a\\\\\\"b"', 'lax $ ? (@ like_regex "^\\\\d" flag "i")'),
        "jsonpath",
    ),
    TypeCase(
        "xml",
        ("<a/>", "text only", "<a b='&quot;&#10;'>\n\t<![CDATA[\\N]]></a>", "<a/><b/>", '<?xml version="1.0"?><é/>'),
        "xml",
        needs="xml",
    ),
    TypeCase("inet", ("0.0.0.0/0", "192.168.0.1", "192.168.0.1/24", "::", "::1/64", "::ffff:1.2.3.4"), "inet"),
    TypeCase("cidr", ("0.0.0.0/0", "10.0.0.0/8", "::/0", "2001:db8::/32"), "cidr"),
    TypeCase("macaddr", ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"), "macaddr"),
    TypeCase("macaddr8", ("00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff"), "macaddr8"),
    TypeCase("point", ("(0,-0)", "(NaN,Infinity)", "(1e-320,1.7976931348623157e308)", "(0.1,0.2)"), "point"),
    TypeCase("line", ("{1,2,3}", "{0,-1,0.1}"), "line"),
    TypeCase("lseg", ("[(0,0),(1,1)]", "[(0.1,-0),(Infinity,NaN)]"), "lseg"),
    TypeCase("box", ("(1,1),(0,0)", "(0.3,0.2),(-0,-0)"), "box"),
    TypeCase("path", ("((0,0),(1,1))", "[(0,0),(1,1),(0.1,0.2)]", "((0,0))"), "path"),
    TypeCase("polygon", ("((0,0))", "((0,0),(1,1),(1e300,0.1))"), "polygon"),
    TypeCase("circle", ("<(0,0),0>", "<(0.1,-0.2),1e300>"), "circle"),
    TypeCase("tsvector", ("", "a:1A b:2B,3 'c d':4", "'\\\\N':1 '''':2", "é"), "tsvector"),
    TypeCase("tsquery", ("", "a & !b | (c <-> d:*AB)", "'\\\\N' & ''''"), "tsquery"),
    TypeCase("oid", ("0", "1", "4294967295"), "oid"),
    TypeCase("xid", ("0", "4294967295"), "xid"),
    TypeCase("xid8", ("0", "18446744073709551615"), "xid8"),
    TypeCase("cid", ("0", "4294967295"), "cid"),
    TypeCase("tid", ("(0,0)", "(4294967295,65535)"), "tid"),
    TypeCase("pg_lsn", ("0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"), "pg_lsn"),
    TypeCase("pg_snapshot", ("10:10:", "10:20:10,14,15"), "pg_snapshot"),
    TypeCase("txid_snapshot", ("10:10:", "10:20:10,14,15"), "txid_snapshot"),
    TypeCase("aclitem", ("postgres=arwdDxt/postgres", "=r/postgres", "postgres=r*w/postgres"), "aclitem"),
    TypeCase("refcursor", ("", "a\tcursor"), "refcursor"),
    TypeCase("regclass", ("-", "pg_catalog.pg_class", "4294967295"), "regclass"),
    TypeCase("regproc", ("-", "pg_catalog.now", "4294967295"), "regproc"),
    TypeCase("regprocedure", ("-", "pg_catalog.abs(integer)"), "regprocedure"),
    TypeCase("regoper", ("0", "pg_catalog.||/"), "regoper"),
    TypeCase("regoperator", ("0", "pg_catalog.+(integer,integer)"), "regoperator"),
    TypeCase("regtype", ("-", "integer", "character varying", '"char"'), "regtype"),
    TypeCase("regrole", ("-", "postgres"), "regrole"),
    TypeCase("regnamespace", ("-", "pg_catalog", "public"), "regnamespace"),
    TypeCase("regconfig", ("-", "pg_catalog.english"), "regconfig"),
    TypeCase("regdictionary", ("-", "pg_catalog.simple"), "regdictionary"),
    TypeCase("regcollation", ("-", 'pg_catalog."C"'), "regcollation"),
    TypeCase("int4range", ("empty", "(,)", "[1,10)", "[-2147483648,2147483647)", "(,5]"), "int4range"),
    TypeCase("int8range", ("empty", "(,)", "[1,10)", "[9223372036854775806,9223372036854775807)"), "int8range"),
    TypeCase("numrange", ("empty", "(,)", "[1.10,1.10]", "(NaN,)", "[-Infinity,Infinity]"), "numrange"),
    TypeCase("daterange", ("empty", "(,)", "[-infinity,infinity)", "[4713-01-01 BC,2000-01-01)"), "daterange"),
    TypeCase("tsrange", ("empty", "(,)", "[-infinity,infinity]", '("2000-01-01 00:00:00",]'), "tsrange"),
    TypeCase("tstzrange", ("empty", "(,)", "[-infinity,infinity)", '["2000-01-01 00:00:00+05:30",)'), "tstzrange"),
    TypeCase("int4multirange", ("{}", "{[1,2),[3,4)}", "{(,)}"), "int4multirange"),
    TypeCase("int8multirange", ("{}", "{[1,2),[3,4)}"), "int8multirange"),
    TypeCase("nummultirange", ("{}", "{[1.10,1.10],(5,)}"), "nummultirange"),
    TypeCase("datemultirange", ("{}", "{(,2000-01-01),[2001-01-01,infinity)}"), "datemultirange"),
    TypeCase("tsmultirange", ("{}", '{["2000-01-01","2001-01-01"),["2002-01-01",)}'), "tsmultirange"),
    TypeCase("tstzmultirange", ("{}", '{["2000-01-01+02","2001-01-01+02")}'), "tstzmultirange"),
)

ARRAYS: tuple[TypeCase, ...] = (
    TypeCase(
        "integer[]", ("{}", "{NULL}", "{1,NULL,3}", "[-2:0]={1,2,3}", "[5:6][-1:0]={{1,2},{3,NULL}}"), label="ints"
    ),
    TypeCase(
        "text[]",
        ("{}", '{""}', '{"NULL",NULL,null}', '{"\\\\N","a\\"b","{","}",",","\\t"}', '{{a},{"\n"}}'),
        label="texts",
    ),
    TypeCase("float8[]", ("{NaN,-0,5e-324,NULL}", "{{{1}},{{2}}}"), label="floats"),
    TypeCase("bytea[]", ('{"\\\\x00ff",NULL,"\\\\x"}',), label="byteas"),
    TypeCase("jsonb[]", ('{"{\\"a\\": \\"\\\\\\\\N\\"}",NULL,"null"}',), label="jsonbs"),
    TypeCase("int2vector", ("", "1 2 3"), label="int2vector"),
    TypeCase("oidvector", ("", "1 2 4294967295"), label="oidvector"),
)

DEFINED_SETUP = r"""
CREATE TYPE odd_label AS ENUM ('z last by name', 'a', 'quote''"', 'comma,', '{}', '\', '\N', 'é', 'NULL', 'tab	',
    '(paren', ' ');
ALTER TYPE odd_label ADD VALUE 'added' BEFORE 'a';
CREATE DOMAIN positive AS numeric(20,3) CHECK (VALUE > 0);
CREATE DOMAIN short AS text CHECK (length(VALUE) < 20);
CREATE DOMAIN labels AS odd_label[];
CREATE TYPE inner_pair AS (a text, b double precision, c odd_label);
CREATE TYPE outer_pair AS (pair inner_pair, pairs inner_pair[], price positive, "odd name" bytea, empty text);
CREATE DOMAIN checked_pair AS inner_pair CHECK ((VALUE).b IS DISTINCT FROM 13);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE TYPE pair_range AS RANGE (subtype = double precision);
"""

DEFINED: tuple[TypeCase, ...] = (
    TypeCase(
        "odd_label",
        ("a", "added", "quote'\"", "comma,", "{}", "\\", "\\N", "é", "NULL", "tab\t", "(paren", " ", "z last by name"),
    ),
    TypeCase("positive", ("0.001", "99999999999999999.999")),
    TypeCase("short", ("", "\\N", "\\.", "tab\t")),
    TypeCase("labels", ("{}", '{a,"quote\'\\"","\\\\N",NULL,"NULL"}')),
    TypeCase("inner_pair", ("(,,)", '("",NaN,a)', '("a,b""c\\\\",-0,"quote\'""")', '("\t\n\\\\N",5e-324,"\\\\N")')),
    TypeCase(
        "outer_pair",
        (
            "(,,,,)",
            '("(,,)","{}",1.5,"\\\\x00",)',
            '("(""x y"",0.1,""comma,"")","{""(a,1,a)"",NULL}",0.001,"\\\\x","")',
        ),
    ),
    TypeCase("checked_pair", ("(,,)", "(a,14,a)")),
    TypeCase("textrange", ("empty", "(,)", '["a b","c,\\"")', '["",""]')),
    TypeCase("textmultirange", ("{}", "{[a,b),[c,)}")),
    TypeCase("pair_range", ("empty", "[-0,5e-324]", "(NaN,)", "[0.1,0.30000000000000004]")),
)

CONTRIB: tuple[TypeCase, ...] = (
    TypeCase("hstore", ("", '"a"=>NULL', '"a"=>"NULL", "b"=>"\\\\N", ""=>""', '"q\\"=>"=>"\n\t"'), extension="hstore"),
    TypeCase("citext", ("", "A", "a", "É", "\\N", "\t"), extension="citext"),
    TypeCase("ltree", ("", "a", "Top.Science.Astronomy", "a_1.b2"), extension="ltree"),
    TypeCase("lquery", ("*.Astronomy.*{1,}", "a|b@*"), extension="ltree"),
    TypeCase("ltxtquery", ("Europe & Russia*@ & !Transportation",), extension="ltree"),
    TypeCase("cube", ("(0)", "(1,2),(3,4)", "(0.1,-0)", "()"), extension="cube"),
    TypeCase("seg", ("1.5", "1 .. 2.50", "< 1.0e10", "~3.14", "1 .. ", "0.0"), extension="seg"),
    TypeCase("isbn13", ("978-0-393-04002-9",), extension="isn"),
    TypeCase("isbn", ("0-393-04002-X",), extension="isn"),
    TypeCase("ean13", ("978-0-393-04002-9", "000-0-00-000000-0"), extension="isn"),
    TypeCase("issn", ("1436-4522",), extension="isn"),
    TypeCase("ismn", ("979-0-706062-06-8",), extension="isn"),
    TypeCase("upc", ("220356483481",), extension="isn"),
    TypeCase("query_int", ("1&(2|!3)",), extension="intarray"),
    TypeCase("lo", ("0", "4294967295"), extension="lo"),
    TypeCase("vector(3)", ("[1,2,3]", "[0.1,-0,1e-38]"), extension="vector", label="vector_3"),
    TypeCase("halfvec(3)", ("[1,2,3]",), extension="vector", label="halfvec_3"),
    TypeCase("sparsevec(5)", ("{1:1,3:2.5}/5", "{}/5"), extension="vector", label="sparsevec_5"),
)


def cases_for(connection: psycopg.Connection) -> Sequence[TypeCase]:
    """The cases that this server can have: by version, by installed extensions, by how it was built."""
    major = connection.info.server_version // 10000
    rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
    extensions = {name for (name,) in rows}
    return [
        case
        for case in (*BUILT_IN, *ARRAYS, *DEFINED, *CONTRIB)
        if case.since <= major
        and (case.extension is None or case.extension in extensions)
        and (case.needs is None or has_xml(connection))
    ]


def has_xml(connection: psycopg.Connection) -> bool:
    try:
        with connection.transaction():
            connection.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def create(connection: psycopg.Connection, tenants: int) -> Sequence[TypeCase]:
    """Tables `tenant` and one a case, filled: every tenant has every value, alone, in an array and in a composite.

    A row of a case: its value, all of the case's values as one array (NULL amid them), and a composite of both.
    """
    cases = cases_for(connection)
    extensions = {case.extension for case in cases if case.extension}
    for extension in sorted(extensions):
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA public").format(sql.Identifier(extension)))
    connection.execute(DEFINED_SETUP)
    connection.execute("CREATE TABLE tenant (id bigint PRIMARY KEY, name text NOT NULL UNIQUE)")
    connection.execute("INSERT INTO tenant SELECT n, 'customer ' || n FROM generate_series(1, %s) AS n", [tenants])
    for case in cases:
        _create_case(connection, case, tenants)
    return cases


def _create_case(connection: psycopg.Connection, case: TypeCase, tenants: int) -> None:
    table, composite = sql.Identifier(case.name), sql.Identifier(case.name + " composite")
    of_type = sql.SQL(case.type)
    # An array of arrays is no type of its own.
    many = of_type if case.is_array else of_type + sql.SQL("[]")
    connection.execute(sql.SQL("CREATE TYPE {} AS (one {}, many {}, after text)").format(composite, of_type, many))
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (id bigint NOT NULL, tenant_id bigint NOT NULL REFERENCES tenant, one {}, many {},"
            " pair {}, PRIMARY KEY (tenant_id, id))"
        ).format(table, of_type, many, composite)
    )
    insert = sql.SQL("INSERT INTO {} (id, tenant_id, one) VALUES (%s, 1, %s)").format(table)
    with connection.cursor() as cursor:
        cursor.executemany(insert, list(enumerate([*case.values, None])))
    source = sql.SQL("one") if case.is_array else sql.SQL("(SELECT array_agg(one) FROM {})").format(table)
    connection.execute(sql.SQL("UPDATE {} SET many = {}").format(table, source))
    connection.execute(
        sql.SQL("UPDATE {} SET pair = ROW(one, many, CASE mod(id, 2) WHEN 0 THEN E'\\t\"' END)::{}").format(
            table, composite
        )
    )
    connection.execute(
        sql.SQL(
            "INSERT INTO {0} SELECT id, n, one, many, pair FROM {0}, generate_series(2, %s) AS n WHERE tenant_id = 1"
        ).format(table),
        [tenants],
    )


def content(connection: psycopg.Connection, case: TypeCase, tenant: int) -> bytes:
    """A tenant's rows of a case as the server sends them in binary, or, where a type has no binary form, as text."""
    query = sql.SQL("SELECT * FROM {} WHERE tenant_id = {} ORDER BY id").format(
        sql.Identifier(case.name), sql.Literal(tenant)
    )
    try:
        with connection.transaction():
            return _copied(connection, sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query))
    except psycopg.errors.UndefinedFunction:  # no binary output function available for type …
        return _copied(connection, sql.SQL("COPY ({}) TO STDOUT").format(query))


def _copied(connection: psycopg.Connection, statement: sql.Composed) -> bytes:
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join(bytes(data) for data in copy)
