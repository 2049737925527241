"""Stages around the fusion."""
