"""A commit of a folder in which a build is running: a whole version, or one clear refusal."""

import subprocess
import sys
from pathlib import Path

import pytest

from medi_build.dataset.versions import refs
from medi_build.dataset.versions.commit import commit
from medi_build.dataset.versions.verify import verify_version
from medi_build.errors import MediError

pytestmark = pytest.mark.slow

BUILDS = """
import sys
from pathlib import Path
from medi_build import BuildOptions, build
out, cache = map(Path, sys.argv[1:])
sources = ("medmcqa/sample", "embedding_training_data/sample_entailment")
for seed in (1, 2, 3, 1, 2, 3):
    build(BuildOptions(out, sources, offline=True, cache=cache, limit_per_dataset=20, seed=seed))
    print(seed, flush=True)
"""


@pytest.mark.long
def test_what_is_committed_beside_builds_is_whole(tmp_path: Path) -> None:
    out, warehouse = tmp_path / "out", tmp_path / "w"
    builds = subprocess.Popen([sys.executable, "-c", BUILDS, str(out), str(tmp_path / "cache")], stdout=subprocess.PIPE)
    assert builds.stdout is not None
    assert builds.stdout.readline() == b"1\n"
    refused: list[str] = []
    while builds.poll() is None:
        try:
            commit(warehouse, out, "as it is now")
        except MediError as error:
            refused.append(str(error))
    assert builds.wait() == 0
    commit(warehouse, out, "the last one")
    versions = refs.log(warehouse)
    assert len({one.manifest for one in versions}) >= 2
    for one in versions:
        assert verify_version(warehouse, str(one.id)).damaged == []
        assert refs.open_version(warehouse, str(one.id)).manifest.rows == one.rows
    told = ("not there", "is missing", "has ", "was changed or damaged", "built again meanwhile", "no shard that")
    assert [one for one in refused if not any(part in one for part in told)] == []
