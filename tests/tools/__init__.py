"""Stateful fakes of vendors' APIs, written from their specifications: real HTTP servers with real habits."""
