"""`python -m sa3_core` is the command line `sa3`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
