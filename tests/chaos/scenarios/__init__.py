"""The rows, one function each, in modules by what they do to the system."""

import importlib
import pkgutil


def load() -> None:
    """Import every module, which declares its rows."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
