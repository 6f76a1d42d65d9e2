"""One adapter per shape of raw data; `medi_build.ingest.adapt` knows them by the names that cards use."""
