"""Files that appear whole, outcomes of tasks, and their journal."""
