"""Training: one loop, and what each trainable plug-in adds to it."""
