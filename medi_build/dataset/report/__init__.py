"""One page about a built dataset: figures of each dataset, what is worth a look, records, a map of the texts."""
