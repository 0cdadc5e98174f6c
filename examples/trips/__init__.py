"""A year of bicycle hires: 24 dirty files are checked, cleaned and added up into one report."""
