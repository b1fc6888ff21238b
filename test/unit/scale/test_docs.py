"""The Kubernetes manifest of docs/scale.md: a RayJob, and a command that the stage takes."""

import re
import shlex
import shutil
import subprocess

import ssd_scale

import pytest
from models import ROOT

yaml = pytest.importorskip("yaml")
PAGES = [ROOT / "docs" / "scale.md", ROOT / "docs" / "scale.zh-CN.md"]


def manifest(page):
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)
    return text


def test_the_manifest_is_a_ray_job_whose_command_the_stage_takes():
    job = yaml.safe_load(manifest(PAGES[0]))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    python, script, *options = shlex.split(spec["entrypoint"])
    assert (python, script) == ("python3", "/kit/ssd_scale.py")
    args = ssd_scale.parse_args(options)
    assert args.address == "auto" and args.resume
    cluster = spec["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        mounts = {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        (mount,) = pod["containers"][0]["volumeMounts"]
        assert all(str(path).startswith(mount["mountPath"]) for path in (args.model, args.output))


def test_both_languages_have_the_same_manifest():
    assert manifest(PAGES[0]) == manifest(PAGES[1])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl")
def test_kubectl_takes_the_manifest():
    command = ["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "name", "-f", "-"]
    done = subprocess.run(command, input=manifest(PAGES[0]), text=True, capture_output=True)
    if "connection refused" in done.stderr or "no matches for kind" in done.stderr:
        pytest.skip("kubectl has no cluster with KubeRay")
    assert done.returncode == 0, done.stderr
