"""``python -m medi_build`` is ``medi``."""

from medi_build.cli import main

if __name__ == "__main__":
    main()
