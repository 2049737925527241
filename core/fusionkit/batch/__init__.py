"""Fusing files: plans, runs and shards."""
