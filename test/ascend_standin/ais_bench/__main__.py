"""`python3 -m ais_bench`: the command line of the inference tool."""

import sys

from ais_bench.infer.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
