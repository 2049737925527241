"""Blind comparison of methods by people: studies, their votes, and what the votes say."""
