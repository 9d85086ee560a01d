"""The embedded Chat API: users, rooms, messages and chat tokens over REST and Socket.IO."""

from chat_broker_server.credentials.tokens import FreshToken
from chat_broker_server.database.open import check_database
from chat_broker_server.embedded import Server, open_server
from chat_broker_server.settings import Settings
from chat_broker_server.standalone import create_app

__all__ = ["FreshToken", "Server", "Settings", "check_database", "create_app", "open_server"]
