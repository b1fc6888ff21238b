"""What the kit knows of Ascend's tools, held against their stand-in."""

import json
from pathlib import Path

import numpy as np
import pytest

import ssd_ascend
from ssd_boxes import MEAN, STD
from ssd_files import KitError

STANDIN = Path(__file__).parent / "ascend_standin"
TABLE = """\
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
"""


def test_the_documented_table_is_read():
    assert ssd_ascend.parse_cards(TABLE) == [ssd_ascend.Card(0, "310P3", "OK", 0, (1074, 21534))]
    assert ssd_ascend.parse_cards("no table") == []


@pytest.mark.parametrize(
    ("cards", "soc"),
    [
        ("310P3:OK", "Ascend310P3"),
        ("310:OK,310:OK", "Ascend310"),
        ("310P3:Warning,310:OK:busy", "Ascend310"),
        ("310P3:OK,310:OK", "several kinds of chip"),
        ("310P3:Alarm", "no healthy card"),
        ("", "finds no card"),
    ],
)
def test_the_chip_is_that_of_the_healthy_cards(cards, soc, standin, monkeypatch):
    monkeypatch.setenv("STANDIN_CARDS", cards)
    if soc.startswith("Ascend"):
        assert ssd_ascend.soc_version() == soc
    else:
        with pytest.raises(KitError, match=soc):
            ssd_ascend.soc_version()


def test_aipp_numbers_come_from_the_one_mean_and_std(monkeypatch):
    def parse():
        pairs = (line.split(": ") for line in ssd_ascend.aipp_config().splitlines() if ":" in line)
        return {key.strip(): value for key, value in pairs}

    config = parse()
    rgb = np.arange(256)
    for i, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        aipp = (rgb - float(config[f"min_chn_{i}"])) * float(config[f"var_reci_chn_{i}"])
        np.testing.assert_allclose(aipp, (rgb / 255 - mean) / std, atol=1e-6)
    monkeypatch.setattr(ssd_ascend, "MEAN", (0.5, 0.5, 0.5))
    assert parse()["min_chn_0"] == "127.5"


@pytest.mark.parametrize(
    "code", ["E10001", "E10034", "E10060", "E16005", "E19010", "EZ9010", "EZ3003", "507033"]
)
def test_every_code_has_advice(code):
    assert ssd_ascend.explain(f"ATC run failed\n{code}: [PID: 7] words").startswith(f"{code}: ")


def test_every_advice_is_for_a_text_that_it_explains():
    for text, advice in ssd_ascend.ADVICE.items():
        assert ssd_ascend.explain(f"words\n{text} words").startswith(f"{text}: {advice}")


@pytest.mark.parametrize("stamp", ["", "[PID: 77] 2024-05-06-10:11:12.776.801 "])
def test_atc_is_quoted_and_a_code_without_advice_too(stamp):
    log = f"ATC run failed\n{{}}: {stamp}Value [a] is invalid.\n        Solution: N/A\n"
    told = ssd_ascend.explain(log.format("E10001"))
    assert told == f"E10001: {ssd_ascend.ADVICE['E10001']} (Value [a] is invalid.)"
    assert ssd_ascend.explain(log.format("E10077")) == "E10077: Value [a] is invalid.; read the log"
    assert ssd_ascend.explain("nothing known") == "no known error code; read the log"


@pytest.mark.parametrize("edition", ["", "2023", "2024"])
def test_an_ais_bench_that_refuses_our_file_names_is_known(edition, standin, run_stage, tmp_path):
    done = run_stage("ssd_ascend.py", "tool", env={"STANDIN_AIS_BENCH": edition})
    assert done.stdout == ("ais_bench in process\n" if edition == "2024" else "ais_bench\n")
    assert done.stderr == ""


def test_what_speaks_against_a_card_is_told_and_no_error(standin, run_stage):
    env = {"STANDIN_CARDS": "310P3:OK,310P3:Alarm,310P3:OK:busy"}
    done = run_stage("ssd_ascend.py", "tool", "--device", "0,1,2,9", env=env)
    assert (done.returncode, done.stdout) == (0, "ais_bench\n")
    assert done.stderr.splitlines() == [
        "card 1: its health is Alarm; see npu-smi info",
        "card 2: busy (87 % of AI Core), so timings tell little",
        "card 9: not in the table of npu-smi info; see --device",
    ]


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({}, None),
        ({"version.cfg": "# version: 1.0\nruntime_running_version=[7.2.0:7.0.0]\n"}, "7.2.0"),
        ({"compiler/version.info": "Version=8.0.RC2\n"}, "8.0.RC2"),
        (
            {
                "version.cfg": "runtime_running_version=[7.2.0:7.0.0]\n",
                "x86_64-linux/ascend_toolkit_install.info": "package_name=a\nversion=7.0.0\n",
            },
            "7.0.0",
        ),
    ],
)
def test_the_version_is_the_one_that_the_package_was_installed_as(
    files, version, tmp_path, monkeypatch
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(tmp_path))
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    assert ssd_ascend.toolkit_version() == version


def convert(run_stage, folder, *options):
    (folder / "m.onnx").exists() or (folder / "m.onnx").write_bytes(b"not read by these tests")
    return run_stage(
        "ssd_onnx2om.py", "--onnx-path", folder / "m.onnx", "--om-path", folder / "m.om", *options
    )


@pytest.mark.parametrize("code", ["E10001", "E19010", "EZ3003"])
def test_a_failing_atc_leaves_its_log_and_nothing_else(code, standin, tmp_path, run_stage):
    done = convert(run_stage, tmp_path, "--soc_version", "Ascend310P3")
    done = run_stage(
        "ssd_onnx2om.py", "--onnx-path", tmp_path / "m.onnx", "--om-path", tmp_path / "m.om",
        env={"STANDIN_ATC_ERROR": code},
    )  # fmt: skip
    assert done.returncode == 1
    assert f"atc failed: {code}: " in done.stderr and done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "m.atc.log", "m.onnx"]


def test_atc_gets_the_documented_call(standin, tmp_path, run_stage):
    convert(
        run_stage,
        tmp_path,
        "--bs",
        16,
        "--aipp",
        "--output_fp16",
        "--atc_args=--buffer_optimize=l2_optimize",
    )
    calls = [json.loads(line) for line in standin.read_text().splitlines()]
    assert calls[0] == ["npu-smi", "info"]
    argv = [word for word in calls[1] if not word.startswith("--output=")]
    assert argv == [
        "atc",
        "--framework=5",
        f"--model={tmp_path / 'm.onnx'}",
        "--input_format=NCHW",
        "--input_shape=image:16,3,300,300",
        "--log=error",
        "--soc_version=Ascend310P3",
        f"--insert_op_conf={tmp_path / 'm.aipp.cfg'}",
        "--enable_small_channel=1",
        "--output_type=FP16",
        "--buffer_optimize=l2_optimize",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ["--aipp", "--atc_args=--input_fp16_nodes=image"],
        ["--dynamic_batch", "1,8", "--atc_args=--dynamic_dims=1"],
        ["--precision_mode_v2", "fp16", "--atc_args=--precision_mode=force_fp16"],
        ["--atc_args=--soc_version=Ascend310"],
        ["--atc_args=--auto_tune_mode=GA"],
    ],
)
def test_what_excludes_each_other_is_refused_before_atc_runs(options, standin, tmp_path, run_stage):
    done = convert(run_stage, tmp_path, *options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert not standin.exists()


def test_a_note_of_another_om_is_refused(tmp_path):
    om = tmp_path / "m.om"
    om.write_bytes(b"one")
    assert ssd_ascend.read_sidecar(om)["input_dtype"] == "float32"
    ssd_ascend.sidecar_path(om).write_text('{"om_sha256": "of another"}')
    with pytest.raises(KitError, match="convert again"):
        ssd_ascend.read_sidecar(om)


def test_the_other_tool_named_ais_bench_is_refused(standin, tmp_path, run_stage):
    assert run_stage("ssd_ascend.py", "tool").stdout == "ais_bench\n"
    info = tmp_path / "ais_bench-3.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ais_bench\nVersion: 3.0.0\n")
    done = run_stage("ssd_ascend.py", "tool", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "3.0.0: another tool of that name" in done.stderr
    old = STANDIN / "ais_infer.py"
    done = run_stage("ssd_ascend.py", "tool", "--ais_infer", old, env={"PYTHONPATH": ""})
    assert done.stdout == f"{old}\n"
