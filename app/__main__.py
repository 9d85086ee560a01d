"""`python -m app`, in a checkout, is `python -m chat_broker`. No part of the wheel, which installs no package `app`."""

from chat_broker.cli.start import run_module

if __name__ == "__main__":
    run_module("app")
