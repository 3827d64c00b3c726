"""The registry's fixtures."""

from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]
