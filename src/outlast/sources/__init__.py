"""Where data lives: adapters that read and write a source. They know nothing of the vault."""
