"""The tests, as one package, so that what they share is imported by name: `from tests.servers import Server`."""
