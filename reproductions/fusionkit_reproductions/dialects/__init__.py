"""Fusion metrics as the codes of the field compute them, quirks included: the dialects."""
