"""What is said of the machine, from files as Linux has them."""

import os
import shutil
import time

from ssd import machine
from ssd.cli import KitError

import pytest

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse {}\n\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (X86.format("avx512_vnni avx512_bf16 amx_tile"), "AMX, VNNI, BF16"),
        (X86.format("avx_vnni"), "VNNI; no AMX, BF16"),
        (X86.format("avx512_vnni avx512_bf16"), "VNNI, BF16; no AMX"),
        (ARM.format("asimddp bf16"), "VNNI, BF16; no AMX"),
        ("", "no AMX, VNNI, BF16"),
    ],
)
def test_what_quickens_a_cpu_is_named_and_so_is_what_it_lacks(text, shown, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    machine.CPUINFO.write_text(text)
    assert machine.cpu_flags() == shown
    assert (machine.processor() == "Some CPU") == ("Some" in text)


def test_memory_is_the_largest_that_this_process_had(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "STATUS", tmp_path / "status")
    assert machine.peak_memory() is None
    machine.STATUS.write_text("VmPeak:\t  900 kB\nVmHWM:\t  200 kB\nVmRSS:\t  100 kB\n")
    assert machine.peak_memory() == 200 * 1024


def test_the_age_of_a_process_is_counted_from_its_start(monkeypatch, tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(machine, "UPTIME", tmp_path / "uptime")
    monkeypatch.setattr(machine, "STAT", tmp_path / "stat")
    assert 0 <= machine.age() <= time.monotonic()
    machine.UPTIME.write_text("100.50 200.00\n")
    before = " ".join(map(str, range(18)))  # fields 4 to 21
    machine.STAT.write_text(f"7 (a ) b) S {before} {98 * ticks} 0 0\n")
    assert machine.age() == pytest.approx(2.5)


def test_space_is_checked_where_the_folder_will_be(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    machine.check_free(tmp_path / "a" / "b", 2_000_000_000, "outputs")
    with pytest.raises(KitError, match=r"outputs need 15 GB, 2 GB are free; free space"):
        machine.check_free(tmp_path / "a" / "b", 15_000_000_000, "outputs")
