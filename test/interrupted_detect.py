"""Runs ssd_detect.py, which gets signals while its model runs, beside a made-up camera 0.

Not a test: `interrupted_detect.py SIGNALS RUN OPTION...`; the numbers of the signals are joined by
commas and come in run number RUN. SSD_SAVED_EVERY: seconds between savings of the JSON. In a
process of its own no test is broken off by them.
"""

import os
import sys

import ssd_detect
from ssd.cli import run_main
from ssd.detect import results

import cv2
import numpy as np
from detecting import noise


class MadeUpCamera:
    def __init__(self, number):
        self.frame = np.asarray(noise(320, 240)).copy()

    def isOpened(self):
        return True

    def get(self, what):
        return 10.0

    def read(self):
        return True, self.frame

    def release(self):
        pass


def interrupt(engine, signals, number):
    """Have an engine send this process signals in its run of that number."""
    run, runs = engine.run, iter(range(1, 1000))

    def interrupted(batch):
        if next(runs) == number:
            for signum in signals:
                os.kill(os.getpid(), signum)
        return run(batch)

    engine.run = interrupted
    return engine


if __name__ == "__main__":
    cv2.VideoCapture = MadeUpCamera
    signals, number = [int(word) for word in sys.argv[1].split(",")], int(sys.argv[2])
    del sys.argv[1:3]
    results.SAVED_EVERY = float(os.environ.get("SSD_SAVED_EVERY", "60"))
    results.SAVING = 1.0
    open_engine = ssd_detect.open_engine
    ssd_detect.open_engine = lambda *args: interrupt(open_engine(*args), signals, number)
    run_main(ssd_detect.main)
