"""What the Python scripts share: a check is one sentence, the first difference ends the script, and the test ends nodes."""

import sys
import time


def same(sentence, seen, expected):
    """Says what was checked; ends the script if it is not so."""
    if seen != expected:
        sys.exit(f"NOT SO: {sentence}\n  expected {expected!r}\n  seen     {seen!r}")
    print(f"ok: {sentence}", flush=True)


def eventually(sentence, seen, expected, within=20):
    """The same of what becomes so. What is raised meanwhile counts as not yet."""
    deadline = time.monotonic() + within
    while True:
        try:
            answer = seen()
        except Exception as error:
            answer = error
        if answer == expected or time.monotonic() > deadline:
            return same(sentence, answer, expected)
        time.sleep(0.05)


def fails(sentence, kind, call):
    """Says what was refused; ends the script if it was not, or otherwise."""
    try:
        answer = call()
    except kind:
        return print(f"ok: {sentence}", flush=True)
    sys.exit(f"NOT SO: {sentence}\n  answered {answer!r}")


def ask(request):
    """Asks the test that runs this script for an act, such as `kill leader`, and returns its answer."""
    print(f"! {request}", flush=True)
    return sys.stdin.readline().strip()


def endpoints():
    """Host and port of each node, as the first argument has them."""
    pairs = (endpoint.rsplit(":", 1) for endpoint in sys.argv[1].split(","))
    return [(host, int(port)) for host, port in pairs]
