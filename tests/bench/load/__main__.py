"""``python -m tests.bench.load``: reads commands as lines of JSON, answers each with a line."""

import asyncio
import gc
import json
import signal
import sys
from typing import Any

import uvloop

from tests.bench.load.generator import Generator
from tests.bench.load.target import Target

LINE_BYTES = 1 << 20


async def serve() -> None:
    """Do what is asked until there is nobody left to ask.  The first line is the target."""
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    about = json.loads(await reader.readline())
    generator = Generator(Target(**{**about, "ports": tuple(about["ports"])}))
    async for line in reader:
        print(json.dumps(await _obey(generator, json.loads(line))), flush=True)


async def _obey(generator: Generator, command: dict[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, float] = await getattr(generator, command.pop("do"))(**command)
        return answer
    except BaseExceptionGroup as group:
        return {"error": "; ".join(sorted({repr(error) for error in group.exceptions}))}
    except Exception as error:
        return {"error": repr(error)}
    finally:
        gc.collect()  # not while something is measured


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
