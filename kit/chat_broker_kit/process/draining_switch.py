"""Whether this process is draining: it still serves, and each HTTP connection is closed after its next response.

A proxy that keeps connections open would otherwise send a request at the moment in which the connection is closed, and
could not know whether that request was carried out.
"""


class DrainingSwitch:
    """A switch that is turned on once."""

    on = False


draining_switch = DrainingSwitch()
