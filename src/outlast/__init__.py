"""Outlast: per-tenant backup and exact restore for shared PostgreSQL tables."""

__version__ = "0.1.0"
