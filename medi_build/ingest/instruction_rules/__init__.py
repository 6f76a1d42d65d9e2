"""Rules that word the instruction of a Super-NI task from its own file; `fields` is the entry."""
