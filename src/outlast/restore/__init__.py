"""From the vault back into live tables: plan, prove, commit."""
