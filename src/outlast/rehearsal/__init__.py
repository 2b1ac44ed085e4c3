"""Rehearsal: a script's exact effect, seen on a copy rebuilt from the vault, before it may touch production."""
