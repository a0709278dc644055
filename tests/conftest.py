"""What all tests rely on."""

import signal


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start, even if a shell started the tests with `&`.

    Such a shell has them ignore SIGINT, and every program that they start inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
