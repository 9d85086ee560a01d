"""Shell commands for a first chat. A development start prints them, and `/` shows them."""


def commands(base: str, chat: str) -> str:
    """The commands for a broker at *base*, with its routes for frontends at *chat*."""
    return f"""# sign in as alice
ALICE=$(curl -s {base}/dev/login -H 'Content-Type: application/json' -d '{{"username": "alice"}}' \\
  | sed 's/.*"token":"\\([^"]*\\)".*/\\1/')
# a chat token for the frontend
curl -s -X POST {chat}/token -H "Authorization: Bearer $ALICE"
# a room, and a message in it
ROOM=$(curl -s {chat}/rooms -H "Authorization: Bearer $ALICE" -H 'Content-Type: application/json' \\
  -d '{{"name": "General"}}' | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
curl -s {chat}/rooms/$ROOM/messages -H "Authorization: Bearer $ALICE" -H 'Content-Type: application/json' \\
  -d '{{"content": "Hello!"}}'
curl -s {chat}/rooms/$ROOM/messages -H "Authorization: Bearer $ALICE\""""
