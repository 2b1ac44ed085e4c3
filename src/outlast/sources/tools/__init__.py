"""Tools behind an API as sources: each connector is mostly a declaration; how it is read is the same for all."""
