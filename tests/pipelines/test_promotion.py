"""The pipeline that asks a person: dynamic, for a static one cannot wait; light to import."""

import subprocess
import sys

from pipelines.fine_tuning import fine_tuning
from pipelines.post_training import post_training
from pipelines.promotion import promotion
from tests.pipelines.test_dag import HEAVY

IMPORT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # None: importing it fails
import os
from zenml.utils import source_utils
source_utils.set_custom_source_root(os.getcwd())  # as the command zenml does
import pipelines.promotion
"""


def test_it_alone_is_dynamic() -> None:
    assert promotion.is_dynamic
    assert not any(pipeline.is_dynamic for pipeline in (post_training, fine_tuning))


def test_it_is_imported_without_heavy_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
