"""Tallygate: API token licensing for Envoy."""

from importlib.metadata import version

__version__ = version("tallygate")
