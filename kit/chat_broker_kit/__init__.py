"""What the broker and the Chat API server share. It imports neither of them."""
