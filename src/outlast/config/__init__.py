"""outlast.toml: what it may say (document, settings, tool), how it is found and read (file), how `init` writes it."""
