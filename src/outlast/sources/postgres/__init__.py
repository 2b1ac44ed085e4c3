"""PostgreSQL 15 to 18 as a source."""
