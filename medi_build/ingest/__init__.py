"""Raw files: found or fetched, read row by row, adapted to examples."""
