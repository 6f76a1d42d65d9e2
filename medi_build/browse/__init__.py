"""The records of a build in a local web page: a file that answers searches, and a server that shows it."""
