"""The gate: one worker serves nothing while all of them change what they serve.

``gate`` takes everything at the edges of the world, ``held`` keeps what one transport says
meanwhile, and ``settling`` agrees with the other workers that nothing is under way between them.
``holding`` is a transaction's use of them.
"""

from netswap.worker.gate.holding import Holding
from netswap.worker.gate.settling import Turns

__all__ = ["Holding", "Turns"]
