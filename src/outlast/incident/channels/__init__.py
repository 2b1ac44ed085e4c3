"""How a letter leaves: one module a channel, each with a `send` that says how it went."""
