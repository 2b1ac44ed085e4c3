"""The replay of April 2022: many tenants in shared tables, some destroyed for good by one script, all put back."""
