"""``tests.loadgen.dying:Dying`` as a protocol: the process of connection 1 dies of its answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from loadgen.continuity import Operation
from loadgen.dialects import Opening
from loadgen.dialects.framed import Verify


class Dying(Verify):
    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self.connection = opening.connection

    def receive(self, data: bytes) -> Sequence[Operation]:
        if self.connection == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().receive(data)
