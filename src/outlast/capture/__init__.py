"""From a source into the vault."""
