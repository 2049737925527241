"""Fusion metrics as their papers define them, and an audit of losses and inventions."""
