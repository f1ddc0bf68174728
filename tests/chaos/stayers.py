"""Members that stay in a presence channel and read, in a process of their own.

A busy channel keeps the loop of whoever holds a thousand of them busy; in the process of the
driver every latency that the driver sees would contain that.
"""

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

import uvloop

from tests import services
from tests.chaos.client import Drain
from tests.chaos.crowd import members_at
from tests.chaos.rows import Run
from tests.e2e.sites import ROOT

JOINED = "joined"


class Stayers:
    """The process, as the driver sees it; ends with the row."""

    def __init__(self, run: Run) -> None:
        self._process = services.spawn(
            [sys.executable, "-m", "tests.chaos.stayers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        run.stack.callback(self._end)

    async def join(self, room: str, users: Mapping[int, Sequence[str]]) -> None:
        """Let *users* join *room*; they are given by the port that they connect to.

        Raises:
            RuntimeError: not all of them did.
        """
        if (answer := await self._ask(json.dumps([room, users]))) != JOINED:
            raise RuntimeError(f"not all members joined {room}: {answer}")

    async def lost(self) -> int:
        """How many connections are not open any more."""
        return int(await self._ask("lost"))

    async def _ask(self, line: str) -> str:
        try:
            return await asyncio.to_thread(self._ask_now, line)
        except OSError as error:
            raise RuntimeError(self._ended()) from error

    def _ask_now(self, line: str) -> str:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        if not (answer := str(self._process.stdout.readline())):
            raise RuntimeError(self._ended())
        return answer.strip()

    def _ended(self) -> str:
        return f"the process of the members ended with {self._process.poll()}; see above"

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


async def _main() -> None:
    loop = asyncio.get_running_loop()
    room, users = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    joins = [members_at(int(port), room, users[port], Drain) for port in users]
    clients = [client for joined in await asyncio.gather(*joins) for client in joined]
    gc.collect()
    gc.freeze()  # the members stay, and are not looked through while others are measured
    print(JOINED, flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(sum(not client.is_open for client in clients), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
