"""The pages and APIs of `outlast serve`, one module each. What they show and do is decided in the rooms below."""
