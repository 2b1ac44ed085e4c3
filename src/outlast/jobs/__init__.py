"""Durable, resumable work on many workers: DBOS schedules batches, the vault and the live rows say what is done."""
