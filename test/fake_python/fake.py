"""Play python3 for the drivers: log each call, and answer as the rules say.

FAKE_LOG    file to which every call's argv goes as one line of JSON
FAKE_REAL   the Python that runs this
FAKE_RULES  JSON: a list of {"if": [WORDS], "call": N, "print": TEXT, "complain": TEXT,
            "write": {PATH: TEXT}, "pid": PATH, "seconds": N, "status": N}; the first
            whose words are all among the call's (ends of words do: `ssd_infer.py`), and whose
            number is the call's, from 1, is followed. pid: where its process is noted; seconds: how
            long it sleeps. A negative status is a signal.
"""

import json
import os
import sys
import time
from pathlib import Path


def applies(rule, argv, count):
    words = rule.get("if", [])
    found = all(any(word.endswith(end) for word in argv) for end in words)
    return found and rule.get("call", count) == count


def main(argv):
    log = Path(os.environ["FAKE_LOG"])
    with log.open("a") as file:
        file.write(json.dumps(argv) + "\n")
    count = len(log.read_text().splitlines())
    rules = json.loads(os.environ.get("FAKE_RULES", "[]"))
    rule = next((rule for rule in rules if applies(rule, argv, count)), {})
    for path, text in rule.get("write", {}).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    print(rule.get("print", ""), end="")
    print(rule.get("complain", ""), end="", file=sys.stderr, flush=True)
    if "pid" in rule:
        Path(rule["pid"]).write_text(str(os.getpid()))
    time.sleep(rule.get("seconds", 0))
    status = rule.get("status", 0)
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
