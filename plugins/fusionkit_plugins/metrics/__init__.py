"""Fusion metrics: `standard` as the papers define them, and dialects as the field's codes compute them."""
