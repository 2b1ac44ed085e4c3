"""Writing into a tool: what was done at the desk while it was away. One module a vendor, all of one shape."""
