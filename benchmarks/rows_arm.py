"""Ingest and validate one set of files in a process of its own, and say what they took.

    python -m benchmarks.rows_arm CORPUS INSTRUCTIONS

Prints JSON: seconds of each step, and the most memory that the process ever held.
"""

import json
import resource
import sys
import time

from posttrain.data.ingest import ingest
from posttrain.data.validate import validate
from posttrain.recipe.ingest import IngestRecipe
from posttrain.recipe.validation import ValidationRecipe


def main() -> None:
    """Run both steps on the files that the command line names."""
    names = dict(zip(("corpus", "instructions"), sys.argv[1:], strict=True))
    recipe = IngestRecipe.model_validate({role: {"source": name} for role, name in names.items()})
    begun, worked = time.perf_counter(), time.process_time()
    records = ingest(recipe)
    ingested = time.perf_counter()
    found = validate(records, ValidationRecipe())
    ended = time.perf_counter()
    print(
        json.dumps(
            {
                "ingest_seconds": ingested - begun,
                "validate_seconds": ended - ingested,
                "cpu_seconds": time.process_time() - worked,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "kept": found.records.facts.num_rows,
                "quarantined": found.quarantine.facts.num_rows,
            }
        )
    )


if __name__ == "__main__":
    main()
