"""Is this process about to end? Then connections are closed behind the answer that they get, one by one, while there is time.

A proxy would else send a request on a connection at the very moment in which it is closed, and could not know whether
that request was carried out.
"""


class Draining:
    """A switch that is turned on once."""

    on = False


draining = Draining()
