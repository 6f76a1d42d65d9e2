"""Scripts for clusters: their form is right, docs show them as they are, and the commands in them are ours.

No cluster of that kind runs them here.
"""

import shlex
import subprocess

import typer
import yaml

from medi_build.cli import app
from tests.conftest import ROOT

SLURM = ROOT / "examples" / "ray" / "medi.sbatch"
KUBERAY = ROOT / "examples" / "ray" / "medi.rayjob.yaml"
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        "activeDeadlineSeconds", "backoffLimit", "entrypoint", "entrypointNumCpus", "rayClusterSpec", "runtimeEnvYAML",
        "shutdownAfterJobFinishes", "submissionMode", "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
    },
    "rayClusterSpec": {"enableInTreeAutoscaling", "headGroupSpec", "rayVersion", "workerGroupSpecs"},
    "headGroupSpec": {"rayStartParams", "serviceType", "template"},
    "workerGroupSpecs": {
        "groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas", "template"
    },
}  # fmt: skip
"""What KubeRay's own types (ray.io/v1) know, as far as one would use it here."""


def checked(command: str) -> None:
    """Parse a command as the shell hands it to us."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["medi", "build"]
    build = typer.main.get_command(app).commands["build"]  # type: ignore[attr-defined]
    given = build.make_context("build", words[2:]).params
    assert given["executor"].value == "ray" and given["address"] and given["data"]


def test_the_script_for_slurm() -> None:
    text = SLURM.read_text()
    assert subprocess.run(["bash", "-n", SLURM], check=False).returncode == 0
    lines = text.splitlines()
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert options and lines[1 : 1 + len(options)] == options, "Slurm reads them up to the first command"
    checked(text[text.index("medi build") :].replace("$address", "10.0.0.1:6379"))


def test_the_job_for_kuberay() -> None:
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    parts = {"": [job], "spec": [job["spec"]], "rayClusterSpec": [cluster], "headGroupSpec": groups[:1],
             "workerGroupSpecs": groups[1:]}  # fmt: skip
    for name, ones in parts.items():
        assert all(set(one) <= FIELDS[name] for one in ones), name
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "map[string]string"
        pod = group["template"]["spec"]
        mounted = {one["name"] for each in pod["containers"] for one in each.get("volumeMounts", [])}
        assert mounted == {one["name"] for one in pod.get("volumes", [])}
    checked(job["spec"]["entrypoint"])


def test_docs_show_them_as_they_are() -> None:
    docs = (ROOT / "docs" / "ray.md").read_text()
    for path, language in ((SLURM, "bash"), (KUBERAY, "yaml")):
        assert f"```{language}\n{path.read_text()}```" in docs
