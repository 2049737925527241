"""The rectified flow: path identities, schedules, solvers, restoration of degraded pictures."""
