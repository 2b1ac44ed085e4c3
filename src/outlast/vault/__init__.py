"""Where protected data lies: an append-only object store, one prefix and one key a tenant. It never knows a source."""
