"""What the broker and the Chat API server both stand on; it knows neither of them."""
