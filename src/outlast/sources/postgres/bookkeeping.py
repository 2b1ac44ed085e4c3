"""Tables that frameworks and migration tools keep for themselves, known by name, so that nobody has to decide them."""

from __future__ import annotations

from outlast.core.table import OwnershipKind
from outlast.sources.postgres.classification import Classification

_MIGRATIONS = frozenset(
    [
        "alembic_version",
        "schema_migrations",
        "ar_internal_metadata",
        "django_migrations",
        "flyway_schema_history",
        "schema_version",
        "knex_migrations",
        "knex_migrations_lock",
        "_prisma_migrations",
        "sequelizemeta",
        "sequelizedata",
        "migrations",
        "typeorm_metadata",
        "migrations_typeorm",
        "mikro_orm_migrations",
        "__drizzle_migrations",
        "databasechangelog",
        "databasechangeloglock",
        "goose_db_version",
        "gorp_migrations",
        "__efmigrationshistory",
        "__diesel_schema_migrations",
        "_sqlx_migrations",
        "refinery_schema_history",
        "atlas_schema_revisions",
        "pgmigrations",
        "doctrine_migration_versions",
        "migration_versions",
        "phinxlog",
        "_yoyo_migration",
        "_yoyo_log",
        "_yoyo_version",
        "yoyo_lock",
        "aerich",
        "south_migrationhistory",
        "schema_info",
        "play_evolutions",
        "play_evolutions_lock",
    ]
)
_REFERENCE = frozenset(
    [
        "django_content_type",
        "django_site",
        "auth_permission",
        "auth_group",
        "auth_group_permissions",
        "spatial_ref_sys",
    ]
)
_SESSIONS = frozenset({"django_session"})


def known(name: str) -> Classification | None:
    """The proposal for a table that has this name and no path to a tenant, if the name is known."""
    lowered = name.lower()
    if lowered in _MIGRATIONS:
        return Classification(OwnershipKind.SHARED, reason="book-keeping of a migration tool")
    if lowered in _REFERENCE:
        return Classification(OwnershipKind.SHARED, reason="reference data of a framework")
    if lowered in _SESSIONS:
        reason = "sessions of a web framework, made again at the next sign-in"
        return Classification(OwnershipKind.IGNORED, reason=reason)
    return None
