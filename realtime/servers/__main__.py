"""uvicorn's command line, which ends with 0 when it was told to stop and did.

    python -m realtime.servers mysite.asgi:application ...

uvicorn raises the signal that stopped it once more when all is done, so that an orderly stop
of a single process looks like a killed one: -15, or 143 in a shell.
"""

import signal
import sys
from types import FrameType

import uvicorn


def main() -> None:
    """Serve until a signal; the arguments are those of ``uvicorn``."""
    signal.signal(signal.SIGTERM, _end)
    uvicorn.main(prog_name="python -m realtime.servers")


def _end(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does before uvicorn's own handler is there, and after it has gone."""
    sys.exit(0)


if __name__ == "__main__":
    main()
