"""Alignment beyond one transform: fields of displacement, and frames of one hand-held camera."""
