"""The embedded Chat API: users, rooms, messages and chat tokens over REST and Socket.IO."""

from .main import create_app
from .server import Server, open_server
from .settings import Settings

__all__ = ["Server", "Settings", "create_app", "open_server"]
