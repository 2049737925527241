"""Which plug-ins there are: the table of kinds, the records, the hooks, and how packages are found and loaded."""
