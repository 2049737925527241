"""Fusing files: what is to do, who does it, what was done."""
