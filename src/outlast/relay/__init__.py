"""The relay: takes what monitoring sends, keeps it, passes it on to the vendor, and pages where the vendor does not."""
