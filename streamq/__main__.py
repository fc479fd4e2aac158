"""`python -m streamq`: the command line."""

import sys

from streamq.cli import main

if __name__ == "__main__":
    sys.exit(main())
