"""Fusion metrics as their papers define them, and an audit of what a fusion lost and invented."""
