"""The nouns, as pure values: no I/O happens here, and nothing here knows a database, a store or a terminal."""
