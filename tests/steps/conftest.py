"""An MLflow registry for steps that look into it."""

from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]
