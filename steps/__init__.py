"""Thin adapters of ZenML to `posttrain`. Importing any step teaches ZenML to store a Folder."""

from steps import _folders as _folders
