"""Files that appear whole, and the record of what was done."""
