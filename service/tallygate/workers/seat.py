"""What a worker process is told when it is started: which one it is, where it listens, whom it reports to.

It comes as one variable of the environment, with the sockets inherited beside it. Owns also the promise that no
worker outlives its supervisor: on Linux the kernel kills it, elsewhere the end of its line stops it. Concurrency: the
kernel ties a worker to the supervisor's thread that started it, which is its main thread. Failure: TallygateError when
the supervisor is gone already.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass

from tallygate.core.errors import TallygateError
from tallygate.transport.listening import Listen, ListenAddress, bind

_VARIABLE = "TALLYGATE_WORKER_SEAT"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place: its number from 0 and its address, which others may share.

    `line_fd` is its end of the line to the supervisor, inherited; `supervisor_pid` is the process at the other end.
    """

    number: int
    listen: str
    line_fd: int
    supervisor_pid: int

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> "Seat | None":
        """Return the seat this process was given, out of its environment; None when it is nobody's worker."""
        text = environment.pop(_VARIABLE, None)
        return None if text is None else cls(**json.loads(text))

    def variable(self) -> dict[str, str]:
        """Return what `take` reads."""
        return {_VARIABLE: json.dumps(asdict(self))}

    async def where(self) -> Listen:
        """Return what the transport listens on: a Unix socket's address, or a port that this process has bound.

        Raises InputError when the port cannot be had.
        """
        address = ListenAddress.parse(self.listen)
        # The supervisor has it too, and perhaps other workers, see `ports`.
        return self.listen if address.path is not None else await bind(address, may_share=True)

    def line(self) -> socket.socket:
        """Return this worker's end of the line."""
        return socket.socket(fileno=self.line_fd)

    def die_with_supervisor(self) -> None:
        """Have the kernel end this process, whatever it does, when its supervisor is gone."""
        # Killed, not asked: a worker that hangs would not hear, and its port would stay taken.
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != self.supervisor_pid:
            raise TallygateError("the supervisor of this worker is gone")
