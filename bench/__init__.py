"""Whole commands measured against what people use today. Run it with `make bench`; see docs/BENCHMARKS.md.

A figure is a ratio of medians taken side by side on the same server in the same run, never an absolute time; and it is
never a test, since a shared machine has its moods.
"""
