"""Engines that map work over tasks, in this process, in several, or on a cluster."""
