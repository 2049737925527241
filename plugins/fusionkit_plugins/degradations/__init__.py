"""What cameras do to pictures, and how the flow undoes it."""
