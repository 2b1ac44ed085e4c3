"""Incidents that communicate by themselves: the promise to tell customers early and often."""
