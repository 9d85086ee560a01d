"""The embedded Chat API: users, rooms, messages and chat tokens over REST and Socket.IO."""

from chat_server.database import check_database
from chat_server.main import create_app
from chat_server.server import Server, open_server
from chat_server.settings import Settings
from chat_server.tokens import FreshToken

__all__ = ["FreshToken", "Server", "Settings", "check_database", "create_app", "open_server"]
