"""pg_dump's script made steady: only its preamble and its fence are touched."""

from __future__ import annotations

from outlast.sources.postgres.dump import steady

SCRIPT = rb"""--
-- PostgreSQL database dump
--

\restrict %KEY%

-- Dumped from database version %VERSION%
-- Dumped by pg_dump version %VERSION%

SET statement_timeout = 0;
SET transaction_timeout = 0;

--
-- Name: f(); Type: FUNCTION; Schema: public; Owner: app
--

CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $$
-- Dumped by pg_dump version 1
SET transaction_timeout = 0;
\restrict inside
$$;

--
-- PostgreSQL database dump complete
--

\unrestrict %KEY%

"""


def script(key: bytes, version: bytes) -> bytes:
    return SCRIPT.replace(b"%KEY%", key).replace(b"%VERSION%", version)


def test_key_and_version_make_no_difference() -> None:
    """Two runs, and two minor versions of pg_dump, give equal bytes."""
    assert steady(script(b"abc", b"18.1")) == steady(script(b"xyz", b"18.2 (Debian)"))


def test_a_function_that_looks_like_a_preamble_is_kept() -> None:
    """What a user wrote is never taken out."""
    body = steady(script(b"abc", b"18.1"))
    assert b"$$\n-- Dumped by pg_dump version 1\nSET transaction_timeout = 0;\n\\restrict inside\n$$" in body


def test_the_fence_stands_and_its_key_depends_on_every_byte() -> None:
    r"""psql's own commands stay off between \restrict and \unrestrict; a script cannot know its own hash."""
    one, other = steady(script(b"k", b"1")), steady(script(b"k", b"1").replace(b"app", b"apq"))
    first, last = one.splitlines()[0], one.splitlines()[-1]
    assert first.startswith(b"\\restrict ")
    assert last == b"\\un" + first[1:]
    assert other.splitlines()[0] != first


def test_a_script_of_an_older_pg_dump_has_no_fence() -> None:
    """An older psql would not know the command either."""
    old = script(b"k", b"15.1").replace(b"\\restrict k\n", b"", 1).replace(b"\\unrestrict k\n", b"")
    assert b"unrestrict" not in steady(old)
