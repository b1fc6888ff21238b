"""Tests of the driver ssd_accuracy_ladder.sh, with a fake python3 that logs how it is called."""

import re

import pytest
from models import ODD, ROOT, Kit, gone

DRIVER = "ssd_accuracy_ladder.sh"
MODELS = {
    "pytorch": "a.pt",
    "float32": "ssd_bs1.onnx",
    "uint8": "ssd_bs1_uint8.onnx",
    "int8": "ssd_bs1_int8.onnx",
    "om": "ssd_bs1.om",
}
DTYPES = {"uint8": "uint8", "int8": "uint8"}  # of the rungs that do not take float32
LOSES = {"if": ["table"], "status": 3, "print": "int8 loses\n"}


class LadderKit(Kit):
    """The driver with options that want quoting; `plan` answers as if the rungs were there."""

    def __init__(self, run_driver, folder):
        super().__init__(DRIVER, run_driver, folder)
        self.data, self.models = folder / ODD / "coco", folder / ODD / "models"
        self.out, self.pth = folder / ODD / "ladder", folder / ODD / "a.pt"
        self.annotation = self.out / "bbox_only_instances_val2017.json"

    def run(self, *args, rungs=("float32", "int8"), rules=(), **env):
        lines = [f"{r}\t{DTYPES.get(r, 'float32')}\t{self.models / MODELS[r]}\n" for r in rungs]
        planned = {"if": ["plan"], "print": "".join(lines)}
        paths = [f"--data_path={self.data}", f"--output={self.out}"]
        return super().run(*paths, *args, rules=[*rules, planned], **env)

    # What the driver should call, call by call.

    def plan(self, *more, pth="./models/iter_183250.pt", models="."):
        words = [stage("ssd_ladder.py"), "plan", str(self.out), f"--data_path={self.data}", *more]
        return [*words, f"--pth_path={pth}"]

    def shared(self, *more):
        return [f"--data_path={self.data}", *more, "--annotation", str(self.annotation)]

    def start(self, *dtypes, reduce=(), source=None, more=()):
        reduced = [stage("prepare-json.py"), "--keep-keys", *reduce]
        return [
            [*reduced, str(source or self.data), str(self.annotation)],
            *(
                [stage("ssd_preprocess.py"), *self.shared(*more), "--dtype", dtype]
                + ["--bin-output", f"{self.out}/ssd_bin_{dtype}", "--reserve-outputs", "2"]
                for dtype in dtypes
            ),
        ]

    def rung(self, name, above=None, more=(), device=()):
        infer = [stage("ssd_infer.py"), *device, "--force", "--output", str(self.out)]
        infer += ["--model", str(self.models / MODELS[name])]
        infer += ["--input", f"{self.out}/ssd_bin_{DTYPES.get(name, 'float32')}"]
        score = [stage("ssd_postprocess.py"), *self.shared(*more)]
        score += ["--bin-input", f"{self.out}/{name}", "--output", f"{self.out}/{name}_result.json"]
        score += ["--detections", f"{self.out}/{name}_detections.json"]
        compare = [stage("ssd_ladder.py"), "compare", str(self.out), above, name]
        calls = [[*infer, "--output_dirname", name], score]
        return [*calls, [*compare, *self.shared(*more)]] if above else calls

    def table(self):
        return [stage("ssd_ladder.py"), "table", str(self.out)]

    def page(self):
        return [stage("ssd_report.py"), str(self.out), "--ladder"]

    def layers(self, *more):
        return [stage("ssd_ladder.py"), "layers", str(self.out), *self.shared(*more)]


def stage(name):
    return str(ROOT / name)


@pytest.fixture
def kit(run_driver, tmp_path):
    return LadderKit(run_driver, tmp_path)


def check(kit, done, calls, status=0):
    assert done.returncode == status, done.stderr
    assert kit.calls() == calls


def test_each_rung_is_run_scored_and_compared_with_the_one_above(kit):
    check(
        kit,
        kit.run(rungs=["pytorch", "float32", "uint8", "int8"]),
        [
            kit.plan("--models=."),
            *kit.start("float32", "uint8"),
            *kit.rung("pytorch"),
            *kit.rung("float32", "pytorch"),
            *kit.rung("uint8", "float32"),
            *kit.rung("int8", "uint8"),
            kit.table(),
            kit.page(),
        ],
    )


def test_each_option_reaches_its_stages(kit):
    source, images = kit.folder / "in st.json", kit.folder / "ima ges"
    settings = ["--device=2", f"--ais_infer={ODD}/ais.py", "--tolerance=2", "--goal=0.23"]
    args = [f"--annotation={source}", f"--images={images}", "--limit", "12", "--all-images"]
    done = kit.run(*args, f"--models={ODD}", "--pth-path=", *settings, rungs=["uint8", "om"])
    more, device = [f"--images={images}", "--all_images"], settings[:2]
    planned = [f"--annotation={source}", f"--images={images}", "--limit=12", "--all_images"]
    check(
        kit,
        done,
        [
            kit.plan(*planned, f"--models={ODD}", *settings, pth=""),
            *kit.start(
                *("float32", "uint8"),
                reduce=["--limit=12", "--all_images"],
                source=source,
                more=more,
            ),
            *kit.rung("uint8", more=more, device=device),
            *kit.rung("om", "uint8", more=more, device=device),
            kit.table(),
            kit.page(),
        ],
    )


def test_an_annotation_file_alone_means_the_data_set_that_it_lies_in(kit):
    annotation = kit.data / "annotations" / "a.json"
    assert kit.run("--data_path=", f"--annotation={annotation}").returncode == 0
    plan, reduce, *rest = kit.calls()
    assert plan[3] == f"--annotation={annotation}" and reduce[-2] == str(annotation)
    data = [word for call in rest for word in call if word.startswith("--data_path=")]
    assert set(data) == {f"--data_path={annotation.parent}/.."}


@pytest.mark.parametrize("layers", [True, False])
def test_a_rung_that_loses_is_status_3_and_its_layers_are_compared_if_asked_for(kit, layers):
    done = kit.run(*["--layers"] * layers, rules=[LOSES])
    calls = [
        kit.plan("--models=."),
        *kit.start("float32", "uint8"),
        *kit.rung("float32"),
        *kit.rung("int8", "float32"),
        kit.table(),
    ]
    check(kit, done, [*calls, *[kit.layers()] * layers, kit.page()], status=3)
    assert done.stdout == "int8 loses\n" and "failed" not in done.stderr


def test_stages_are_numbered_as_they_run(kit):
    done = kit.run("--layers")
    names = ["annotations", "images, float32", "images, uint8", "inference, float32"]
    names += ["scoring, float32", "inference, int8", "scoring, int8", "int8 against float32"]
    names += ["table", "layers", "page"]
    assert re.findall(r"^\[(.*)\] (.*)$", done.stderr, re.M) == [
        (f"{i}/{len(names)}", name) for i, name in enumerate(names, start=1)
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nosuch"], "unknown option --nosuch; see --help"),
        (["--pictures=x"], "unknown option --pictures=x; see --help"),
        (["--layers=yes"], "--layers takes no value; see --help"),
        (["--limit"], "--limit needs a value; see --help"),
    ],
)
def test_unknown_options_are_one_line_and_status_2_before_any_work(kit, options, message):
    done = kit.run(*options)
    assert (done.returncode, done.stderr) == (2, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []


@pytest.mark.parametrize("status", [1, 2])
def test_a_plan_that_is_refused_ends_the_run_before_any_work(kit, status):
    refusal = "ssd_ladder.py: error: it\n"
    done = kit.run(rules=[{"if": ["plan"], "status": status, "complain": refusal}])
    assert (done.returncode, done.stderr) == (status, refusal)
    assert len(kit.calls()) == 1 and not kit.out.exists()


def test_a_signal_ends_the_plan_too(kit, tmp_path):
    pid = tmp_path / "pid"
    process = Kit.start(kit, f"--output={kit.out}", rules=[{"pid": str(pid), "seconds": 600}])
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143 and gone(int(pid.read_text()))
    assert not kit.out.exists()


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize("call", range(2, 12))
def test_a_failing_stage_stops_the_run_with_its_status(kit, call, status, seen):
    rules = [{"call": call, "status": status, "complain": "stage.py: error: it\n"}]
    done = kit.run(rules=rules)
    names = ["annotations", "images, float32", "images, uint8", "inference, float32"]
    names += ["scoring, float32", "inference, int8", "scoring, int8", "int8 against float32"]
    name = [*names, "table", "page"][call - 2]
    assert done.returncode == seen
    assert len(kit.calls()) == call + (name == "table" and status == 3)  # a loss has its page
    if name == "table":
        assert ("error: stage 'table' " in done.stderr) == (status != 3)
    else:
        assert done.stderr.splitlines()[-1].startswith(f"{DRIVER}: error: stage '{name}' ")


def test_relative_paths_mean_the_folder_where_the_user_is(kit):
    kit.data.mkdir(parents=True)
    kit.run("--data_path=../coco", "--output=out", cwd=kit.data)
    assert kit.calls()[0][2:4] == ["out", "--data_path=../coco"]


def test_help_shows_every_option_that_the_driver_takes(kit):
    done = kit.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    code = (ROOT / "test" / DRIVER).read_text()
    taken = set(re.findall(r"\[(\w+)\]=", code)) | {"help"}
    assert taken == set(re.findall(r"^ {2}--(\w+)", done.stdout, re.M))
    assert kit.calls() == []
