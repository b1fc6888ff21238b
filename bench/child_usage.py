#!/usr/bin/env python3
"""Run a command; print its wall clock, its processor time and its peak of memory as JSON.

ru_maxrss begins with the peak of the process that started the command, which a benchmark that has
drawn its data raises above what the command takes. So `usage_of` runs this file, which is small, in
between.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence


def usage_of(command: Sequence[object]) -> dict[str, float]:
    """Return seconds of wall clock (`wall`) and of processors (`busy`), and bytes (`peak`).

    busy: of the command and its children. peak: of the largest process of them. What the command
    prints on stdout goes nowhere. Ends the benchmark if it fails.
    """
    words = [sys.executable, "-S", __file__, *map(str, command)]
    done = subprocess.run(words, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{' '.join(words[3:])}: failed")
    return json.loads(done.stdout)


def main() -> None:
    start = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = {"wall": time.perf_counter() - start, "busy": usage.ru_utime + usage.ru_stime}
    if status:
        sys.exit(1)
    print(json.dumps(seconds | {"peak": 1024 * usage.ru_maxrss}))


if __name__ == "__main__":
    main()
