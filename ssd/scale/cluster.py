"""Ray: a cluster of this machine's for one run, or the one that is there.

Ray reads its environment while it is imported, so that is done here, late, and elsewhere only in
`pipeline`, which is to be imported while `connected`.
"""

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from ssd.cli import ENDING, KitError
from ssd.engines.base import first_line
from ssd.scale import janitor

LOCAL = "local"  # address that starts a cluster, which ends with the run
ROOM = 40  # letters that the path of temporary files may have: Ray's sockets lie below it
STORE = 512 << 20  # bytes of a local cluster's object store; Ray takes 30 % of the memory
ANSWER = 10  # seconds that a cluster may take to answer
SETTINGS = {  # of Ray; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to Ray's maker
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # the others come as exceptions, or are put right by Ray
    "RAY_DATA_DISABLE_PROGRESS_BARS": "0" if sys.stderr.isatty() else "1",
}


class Share(NamedTuple):
    """What a worker asks a host for.

    actors: how many run the model. threads: of each, on a CPU. model, reader: Ray's options of an
    actor and of a task that reads images.
    """

    actors: int
    threads: int | None
    model: dict[str, float | dict[str, float]]
    reader: dict[str, float]


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster: `local` starts one, `auto` finds that of this host, else HOST:PORT.

    A cluster's hosts get the kit's package from here. What is local has its own password, no
    dashboard, and its files in a folder of temporary ones; it ends with this process, even if that
    is killed. Raises KitError if there is no such cluster.
    """
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    handlers = {signum: signal.getsignal(signum) for signum in ENDING}
    options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    start = _folder if address == LOCAL else nullcontext
    with redirect_stdout(sys.stderr), start() as folder:  # Ray prints there what befalls hosts
        if address != LOCAL:
            _check_address(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if address == LOCAL:  # its workers find the package beside the script
            options |= {"_temp_dir": folder, "object_store_memory": STORE}
            options |= {"include_dashboard": False}
        else:
            options["runtime_env"] = {"py_modules": [str(Path(__file__).parents[1])]}
        try:
            _init(options)
            for signum, handler in handlers.items():  # Ray has put its own in their place
                signal.signal(signum, handler)
            yield
        finally:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Raise KitError if nothing answers at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # none, or of a form that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, reason: str) -> KitError:
    return KitError(
        f"--address {address}: no Ray cluster ({reason}); start one (docs/scale.md), or give local"
    )


def _init(options: dict[str, Any]) -> None:
    """Call ray.init without what its parts in C++ print. Raises KitError if it fails."""
    import ray

    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise _no_cluster(options["address"], first_line(error)) from None
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _folder() -> Iterator[str]:
    """Give a folder for a local cluster; at the end, whichever, its processes and it are gone."""
    short = len(tempfile.gettempdir()) < ROOM
    folder = tempfile.mkdtemp(prefix="ssd_scale_", dir=None if short else "/tmp")
    command = [sys.executable, "-I", janitor.__file__, folder]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **quiet):
        os.environ[janitor.VARIABLE] = folder
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        yield folder


def shares(engine: str, device: str, actors: int | None) -> Share:
    """Return what each worker gets of the cluster.

    actors: None is one for each card, GPU or, for engines on a CPU, core. There every core also
    reads for its actor. Raises KitError if the cluster has too little.
    """
    import ray

    there = ray.cluster_resources()
    kind = "NPU" if engine == "ascend" else "GPU" if device == "cuda" else "CPU"
    units = int(there.get(kind, 0))
    if not units:
        raise KitError(f"the cluster has no {kind}; start Ray on a host with one (docs/scale.md)")
    count = actors or units
    if count > units:
        raise KitError(f"--concurrency {count}: the cluster has {units} {kind}; give fewer")
    if kind != "CPU":
        given = {"num_gpus": 1} if kind == "GPU" else {"resources": {"NPU": 1}}
        return Share(count, None, given | {"num_cpus": 1}, {"num_cpus": 1})
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    threads = max(1, min(units // count, largest))
    return Share(count, threads, {"num_cpus": 0.75 * threads}, {"num_cpus": 0.25})
