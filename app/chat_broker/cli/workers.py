"""Several processes on the same sockets until told to stop; one that dies, or says nothing any more, is replaced.

uvicorn's own supervisor waits for each worker's answer in turn. One that dies before its first answer is missed for as
long as that wait may take, and so is everything else: the death of another, or a signal.
"""

import os
import signal
import socket
import time

import structlog
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from chat_broker_kit.insides import Needs, misfit
from chat_broker_kit.process.listening import SETTLE_SECONDS, stop_handshakes

log = structlog.get_logger(__name__)

NEEDS: Needs = {
    Multiprocess: (
        "config", "handle_hup", "keep_subprocess_alive", "processes", "run", "should_exit", "signal_queue", "sockets",
        "terminate_all",
    ),
    Process: ("exitcode", "join", "kill", "parent_conn", "pid", "process", "start"),
}  # fmt: skip


class Workers(Multiprocess):
    """uvicorn's supervisor, which looks at every worker twice a second and waits for none."""

    def __init__(
        self, config: Config, sockets: list[socket.socket], *, drain_seconds: float
    ) -> None:
        """*drain_seconds*: for so long after SIGTERM the workers go on, and the port stays open."""
        super().__init__(config, sockets)
        self._drain_seconds = drain_seconds
        self._heard_at: dict[Process, float] = {}
        self._asked: set[Process] = set()

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that are gone, and those that were silent for too long."""
        for at, process in enumerate(self.processes):
            if not self._is_gone(process):
                continue
            process.kill()
            process.join()
            self._heard_at.pop(process, None)
            self._asked.discard(process)
            if process.exitcode == STARTUP_FAILURE:  # another would fail in the same way
                log.error("workers.failed_to_start", process=process.pid)
                self.should_exit.set()
                return
            log.warning("workers.replaced", process=process.pid, exitcode=process.exitcode)
            self.processes[at] = Process(self.config, self.sockets)
            self.processes[at].start()

    def _is_gone(self, process: Process) -> bool:
        if not process.process.is_alive():
            return True
        now = time.monotonic()
        heard_at = self._heard_at.setdefault(process, now)
        try:
            if process not in self._asked:
                process.parent_conn.send(b"ping")
                self._asked.add(process)
            if process.parent_conn.poll():
                process.parent_conn.recv()
                self._asked.discard(process)
                self._heard_at[process] = now
                return False
        except (OSError, EOFError):
            return True
        return now - heard_at > self.config.timeout_worker_healthcheck

    def handle_hup(self) -> None:
        """uvicorn would start all anew; ours know how to read a key again."""
        self._signal_all(signal.SIGHUP)

    def terminate_all(self) -> None:
        """The port is closed here first, while the workers still accept: none of them will take what comes later."""
        if self._drain_seconds:
            self._signal_all(signal.SIGTERM)
            self._while_draining()
        stop_handshakes(self.sockets)
        time.sleep(SETTLE_SECONDS)
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def _while_draining(self) -> None:
        """Wait for as long as the workers go on. A second signal ends that, here and there."""
        ends = time.monotonic() + self._drain_seconds
        while time.monotonic() < ends and any(one.process.is_alive() for one in self.processes):
            if self.signal_queue:
                return
            time.sleep(0.1)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, number)


def run_workers(config: Config, sockets: list[socket.socket], *, drain_seconds: float) -> None:
    """Run them until told to stop, under uvicorn's own supervisor if ours does not fit the uvicorn that is installed.

    Under uvicorn's, the port closes at once on SIGTERM, and SIGHUP starts every worker anew.
    """
    reason = misfit(NEEDS, Workers)
    if reason:
        log.warning("workers.ordinary_supervisor", reason=reason)
        Multiprocess(config, sockets).run()
    else:
        Workers(config, sockets, drain_seconds=drain_seconds).run()
