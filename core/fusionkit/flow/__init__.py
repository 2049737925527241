"""The rectified flow: path identities, schedules, solvers."""
