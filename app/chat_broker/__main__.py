"""`python -m chat_broker` is the `chat-broker` command; without a subcommand, it serves."""

from chat_broker.cli.start import run_module

if __name__ == "__main__":
    run_module("chat_broker")
