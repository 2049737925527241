"""Published methods and metrics as their code computes them: the baselines beside the built-ins."""
