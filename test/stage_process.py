"""Runs a stage in a process of its own that need not load the libraries again.

Such a process is forked off a server that has loaded them, once for each pytest process.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

LIBRARIES = ["av", "cv2", "numpy", "onnx", "onnxruntime", "openvino", "PIL.Image", "torch", "tqdm"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*LIBRARIES, "pycocotools.cocoeval", "pytest"])


def start(script, args, env, room, pipes):
    """Be `python3 SCRIPT ARGS`, run from /; pipes: what stdout and stderr go to."""
    for stream, pipe in zip((sys.stdout, sys.stderr), pipes, strict=True):
        os.dup2(pipe.fileno(), stream.fileno())
        pipe.close()
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    multiprocessing.set_start_method(None, force=True)  # the platform's, not this server's
    os.environ.clear()
    os.environ.update(env)
    os.chdir("/")
    added = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [str(Path(script).parent), *added]
    sys.argv = [script, *args]
    if room is not None:
        setrlimit(RLIMIT_FSIZE, (room, room))
    runpy.run_path(script, run_name="__main__")


def read(pipe):
    with pipe, open(pipe.fileno(), closefd=False) as file:
        return file.read()


def run(script, args, env, room=None):
    """Run a script from another folder and return what subprocess.run would.

    room: the most bytes that any file which it writes may have; None: as many as it likes.
    """
    readers, writers = zip(*(SERVER.Pipe(duplex=False) for _ in range(2)), strict=True)
    process = SERVER.Process(target=start, args=(script, args, dict(env), room, writers))
    process.start()
    for pipe in writers:
        pipe.close()
    with ThreadPoolExecutor(2) as threads:
        out, err = threads.map(read, readers)
    process.join()
    command = [sys.executable, script, *args]
    return subprocess.CompletedProcess(command, process.exitcode, out, err)
