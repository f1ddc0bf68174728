"""Servers run on uvloop in production, and without it wherever somebody starts them by hand."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    """Every test here runs on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
