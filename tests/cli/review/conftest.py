"""The filled registry and the page on it."""

from tests.cli.review.museum import desk, museum, museum_store, no_zenml, site
from tests.store import migrated_store

__all__ = ["desk", "migrated_store", "museum", "museum_store", "no_zenml", "site"]
