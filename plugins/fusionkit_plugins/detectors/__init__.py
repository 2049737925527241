"""Detectors of objects, for the consistency of a result with its sources."""
