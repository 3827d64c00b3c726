"""Thin adapters of ZenML to `posttrain`. Importing any step teaches ZenML to store our types."""

from steps import _folders as _folders
from steps import _reports as _reports
from steps import _tracker as _tracker
