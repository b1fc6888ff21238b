"""Tests of the driver ssd_eval_acc_perf.sh with a fake python3 that logs how it is called."""

import pytest
from models import ODD, ROOT, Kit

DRIVER = "ssd_eval_acc_perf.sh"
DTYPE = {"if": ["--print_dtype"], "print": "float32\n"}


def stage(name):
    return str(ROOT / name)


class EvalKit(Kit):
    """Runs the driver over folders that need not exist: all decisions are the stages'."""

    def __init__(self, run_driver, folder):
        super().__init__(DRIVER, run_driver, folder)
        self.data, self.models = folder / ODD / "data", folder / ODD / "models"
        self.out = folder / ODD / "result"
        self.inputs = str(self.out / "ssd_bin")
        self.annotation = str(self.out / "bbox_only_instances_val2017.json")

    def options(self):
        return [f"--data_path={self.data}", f"--models={self.models}", f"--output={self.out}"]

    def run(self, *args, rules=(), **env):
        return super().run(*self.options(), *args, rules=[*rules, DTYPE], **env)

    # What the driver should call, call by call; `more` are options of the driver, passed on.
    def infer(self, *more):
        return [stage("ssd_infer.py"), f"--models={self.models}", *more]

    def scored_data(self, more=()):
        return [f"--data_path={self.data}", *more, "--annotation", self.annotation]

    def checks(self, sizes, scoring=("--remove-outputs",), more=(), engine=(), route=(), timing=()):
        data = [f"--data_path={self.data}", *more]
        what = ["--batchsize", sizes, *timing]
        what += ["--output", str(self.out), "--print_dtype"]
        return [
            [stage("ssd_postprocess.py"), *data, *scoring, "--check"],
            self.infer(*engine, *data, *route, *what),
        ]

    def inputs_made(self, dtype="float32", reserve="1", more=()):
        return [
            [stage("prepare-json.py"), "--keep-keys", str(self.data), self.annotation],
            [stage("ssd_preprocess.py"), *self.scored_data(more), "--bin-output", self.inputs]
            + ["--dtype", dtype, "--reserve-outputs", reserve],
        ]

    def score(self, batch, scoring=("--remove-outputs",), more=(), engine=(), route=()):
        name, data = f"{self.out}/bs{batch}", self.scored_data(more)
        return [
            self.infer(*engine, "--output", str(self.out), "--batchsize", str(batch))
            + ["--output_dirname", f"bs{batch}", *data, *route, "--input", self.inputs],
            [stage("ssd_postprocess.py"), *data, *scoring, "--bin-input", name]
            + ["--output", f"{name}_result.json", "--detections", f"{name}_detections.json"],
        ]

    def time(self, batch, engine=(), timing=()):
        run = self.infer(*engine, "--output", str(self.out), "--batchsize", str(batch))
        return [*run, "--output_dirname", f"bs{batch}_perf", *timing]

    def report(self, sizes, *args, more=()):
        command = " ".join([DRIVER, *self.options(), *args])
        report = [stage("ssd_report.py"), str(self.out), *self.scored_data(more)]
        rows = [f"--batch_sizes={sizes}", *(a for a in args if a.startswith("--latency"))]
        return [*report, *rows, "--fact", f"command={command}"]


@pytest.fixture
def kit(run_driver, tmp_path):
    return EvalKit(run_driver, tmp_path)


def check(kit, done, calls):
    assert done.returncode == 0, done.stderr
    assert kit.calls() == calls
    assert done.stdout.splitlines()[-1] == "success"


def test_each_batch_size_is_scored_and_timed(kit):
    done = kit.run()
    calls = [*kit.checks("1,16"), *kit.inputs_made()]
    calls += [*kit.score(1), kit.time(1), *kit.score(16), kit.time(16)]
    check(kit, done, [*calls, kit.report("1,16")])
    assert done.stderr.splitlines() == [
        "[1/10] check of options, models and annotations",
        "[2/10] annotations",
        "[3/10] images",
        "[4/10] inference, batch 1",
        "[5/10] scoring, batch 1",
        "[6/10] timing, batch 1",
        "[7/10] inference, batch 16",
        "[8/10] scoring, batch 16",
        "[9/10] timing, batch 16",
        "[10/10] report",
    ]


def test_options_of_the_data_set_reach_the_stages_that_read_it(kit, tmp_path):
    other, images = tmp_path / "in st.json", tmp_path / "pic tures"
    args = [f"--annotation={other}", f"--images={images}", "--all_images", "--limit=7"]
    args.append("--batch_sizes=4")
    done = kit.run(*args)
    assert done.returncode == 0, done.stderr
    more = [f"--images={images}", "--all_images"]
    first = [f"--annotation={other}", *more]
    prepare = [stage("prepare-json.py"), "--keep-keys", "--limit=7", "--all_images"]
    calls = [*kit.checks("4", more=first), [*prepare, str(other), kit.annotation]]
    calls += [kit.inputs_made(more=more)[1], *kit.score(4, more=more), kit.time(4)]
    check(kit, done, [*calls, kit.report("4", *args, more=more)])


@pytest.mark.parametrize(
    "engine",
    [
        ["--engine=openvino", "--precision=int8", "--device=cpu"],
        ["--variant=uint8", "--engine=onnxruntime", "--device=cuda:1"],
        ["--engine=ascend", "--device=0,1", "--ais_infer=/opt/a b/ais_infer.py"],
    ],
)
def test_options_of_the_engine_reach_inference_and_timing(engine, kit):
    done = kit.run(*engine, "--batch_sizes=4", "--loop=7")
    order = ["variant", "engine", "precision", "device", "ais_infer"]  # as the driver has them
    given = sorted(engine, key=lambda word: order.index(word[2:].partition("=")[0]))
    calls = [*kit.checks("4", engine=given, timing=["--loop=7"]), *kit.inputs_made()]
    calls += [*kit.score(4, engine=given), kit.time(4, given, ["--loop=7"])]
    check(kit, done, [*calls, kit.report("4", *engine, "--batch_sizes=4", "--loop=7")])


@pytest.mark.parametrize(
    ("found", "given"),
    [
        ("openvino:int8:int8", ["--variant=int8", "--engine=openvino", "--precision=int8"]),
        ("onnxruntime:f32:", ["--engine=onnxruntime", "--precision=f32"]),
    ],
)
def test_the_fastest_engine_is_measured_once_and_taken_by_all_stages(found, given, kit):
    args = ["--engine=fastest", "--batch_sizes=4,8"]
    done = kit.run(*args, rules=[{"if": ["--fastest"], "print": f"{found}\n"}])
    measured = [stage("ssd_doctor.py"), "--fastest", "--batchsize=4", f"--models={kit.models}"]
    calls = [measured, *kit.checks("4,8", engine=given), *kit.inputs_made()]
    for batch in (4, 8):
        calls += [*kit.score(batch, engine=given), kit.time(batch, given)]
    check(kit, done, [*calls, kit.report("4,8", *args)])


def test_a_measurement_that_fails_ends_the_run(kit):
    done = kit.run("--engine=fastest", rules=[{"if": ["--fastest"], "status": 1}])
    assert done.returncode == 1 and len(kit.calls()) == 1


def test_options_of_the_scoring_reach_it_and_the_check_before_any_work(kit):
    args = ["--goal=.5", "--threshold=0.4", "--workers=3", "--batch_sizes=4"]
    done = kit.run(*args)
    scoring = ["--goal=.5", "--threshold=0.4", "--workers=3", "--remove-outputs"]
    calls = kit.checks("4", scoring, route=["--workers=3"])
    prepare, preprocess = kit.inputs_made()
    calls += [prepare, [*preprocess, "--workers=3"]]
    calls += [*kit.score(4, scoring, route=["--workers=3"]), kit.time(4)]
    check(kit, done, [*calls, kit.report("4", *args)])


def test_the_dtype_of_the_models_is_that_of_the_inputs(kit):
    done = kit.run("--batch_sizes=4", rules=[{"if": ["--print_dtype"], "print": "uint8\n"}])
    assert done.returncode == 0, done.stderr
    assert kit.calls()[3] == kit.inputs_made("uint8")[1]


@pytest.mark.parametrize(
    ("options", "reserve", "removes"),
    [
        ([], "1", True),
        (["--keep_outputs"], "2", False),
    ],
)
def test_room_is_reserved_for_the_outputs_that_there_will_be(options, reserve, removes, kit):
    done = kit.run(*options, "--batch_sizes=1,4")
    assert done.returncode == 0, done.stderr
    calls = kit.calls()
    assert calls[3] == kit.inputs_made(reserve=reserve)[1]
    scores = [call for call in calls if call[0] == stage("ssd_postprocess.py")]
    assert ["--remove-outputs" in call for call in scores] == [removes] * 3


def test_in_process_no_inputs_are_made_or_read(kit):
    done = kit.run("--in_process", "--batch_sizes=1,4")
    route = ["--in_process"]
    calls = [*kit.checks("1,4", route=route), kit.inputs_made()[0]]
    for batch in (1, 4):
        calls += [*kit.score(batch, route=route), kit.time(batch)]
    for call in calls:
        if "--input" in call:
            del call[-2:]
    check(kit, done, [*calls, kit.report("1,4", "--in_process", "--batch_sizes=1,4")])
    assert done.stderr.splitlines()[-1] == "[9/9] report"


def test_force_reaches_what_replaces_results(kit):
    assert kit.run("--force", "--batch_sizes=1").returncode == 0
    forced = [call for call in kit.calls() if "--force" in call]
    assert forced == [call for call in kit.calls() if "--input" in call or "--print_dtype" in call]


@pytest.mark.parametrize(("best", "scored"), [("8", [1, 8]), ("1", [1])])
def test_fast_times_all_and_scores_batch_1_and_the_fastest(best, scored, kit):
    args = ["--batch_sizes=1,4,8", "--fast", "--loop=2"]
    done = kit.run(*args, rules=[{"if": ["--print-best"], "print": f"{best}\n"}])
    print_best = [stage("ssd_report.py"), str(kit.out), "--batch_sizes=1,4,8", "--print-best"]
    calls = [*kit.checks("1,4,8", timing=["--loop=2"]), *kit.inputs_made()]
    calls += [kit.time(n, timing=["--loop=2"]) for n in (1, 4, 8)]
    calls += [print_best, *(call for n in scored for call in kit.score(n))]
    check(kit, done, [*calls, kit.report("1,4,8", *args)])
    lines = done.stderr.splitlines()
    assert f"{DRIVER}: fastest: batch {best}; scoring it and batch 1" in lines
    last = 3 + 3 + 2 * len(scored) + 1
    assert lines[-1] == f"[{last}/{last}] report"


def test_a_failing_choice_of_the_fastest_stops_the_run(kit):
    done = kit.run("--fast", rules=[{"if": ["--print-best"], "status": 4}])
    assert done.returncode == 4
    assert "--print-best" in kit.calls()[-1]


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (2, 2), (5, 5), (-9, 137)])
@pytest.mark.parametrize(("end", "calls"), [("--check", 1), ("--print_dtype", 2)])
def test_what_the_checks_refuse_stops_the_run_before_any_work(end, calls, status, seen, kit):
    refusal = {"if": [end], "status": status, "complain": "ssd_x.py: error: bad\n"}
    done = kit.run(rules=[refusal])
    assert done.returncode == seen
    step, *lines = done.stderr.splitlines()
    assert step == "[1/10] check of options, models and annotations"
    assert lines[0] == "ssd_x.py: error: bad"
    if status < 0:
        assert "' was killed by signal 9: out of memory? " in lines.pop()
    assert len(lines) == 1
    assert len(kit.calls()) == calls
    assert not kit.out.exists()


@pytest.mark.parametrize(("status", "seen"), [(1, 1), (3, 3), (-9, 137)])
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["prepare-json.py"], "annotations"),
        (["ssd_preprocess.py"], "images"),
        (["ssd_infer.py", "bs1"], "inference, batch 1"),
        (["ssd_postprocess.py", "bs1"], "scoring, batch 1"),
        (["ssd_infer.py", "bs1_perf"], "timing, batch 1"),
        (["ssd_report.py"], "report"),
    ],
)
def test_a_failing_stage_stops_the_run_with_its_status(kit, words, name, status, seen):
    done = kit.run("--batch_sizes=1", rules=[{"if": words, "status": status}])
    assert done.returncode == seen
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{DRIVER}: error: stage '{name}' ")
    assert last.endswith("is kept")
    assert all(any(word.endswith(end) for word in kit.calls()[-1]) for end in words)
    assert "success" not in done.stdout


def test_a_map_that_is_too_low_ends_the_run_with_status_4_once_all_is_done(kit):
    rule = {"if": ["ssd_postprocess.py", "bs1"], "status": 4}
    done = kit.run("--batch_sizes=1,4", "--fail_below=.3", rules=[rule])
    assert done.returncode == 4
    assert kit.calls()[-1][0] == stage("ssd_report.py")
    assert "success" not in done.stdout and "failed" not in done.stderr
    scoring = [call for call in kit.calls() if call[0] == stage("ssd_postprocess.py")]
    assert all("--fail_below=.3" in call for call in scoring) and len(scoring) == 3


def test_the_results_are_closed_to_others_as_newer_ais_bench_wants(kit):
    assert kit.run("--batch_sizes=1").returncode == 0
    assert kit.out.stat().st_mode & 0o027 == 0


@pytest.mark.parametrize("form", ["--batch-sizes=4", "--batch_sizes=4"])
def test_options_may_be_written_with_a_dash(form, kit):
    done = kit.run(form, "--in-process", "--loop", "3")
    assert done.returncode == 0, done.stderr
    assert kit.time(4, timing=["--loop=3"]) in kit.calls()


def test_wrong_batch_sizes_are_one_line_and_status_2_before_any_work(kit):
    done = kit.run("--batch_sizes=1,x")
    message = "--batch_sizes=1,x: give sizes such as 1,16"
    assert (done.returncode, done.stderr) == (2, f"{DRIVER}: error: {message}\n")
    assert kit.calls() == []
