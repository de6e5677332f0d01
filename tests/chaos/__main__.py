"""`python -m tests.chaos --seed N --seconds 60`: one run, its attacks and what came of it."""

import argparse
import contextlib
import random
import sys

from tests.chaos.attacks import WEIGHTS
from tests.chaos.node_attacks import NODE_WEIGHTS
from tests.chaos.run import Plan, chaos_nodes, chaos_server, run


def main() -> int:
    """Run what the command line asks for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=0, help="stop after so many complete ones")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between attacks, at most")
    parser.add_argument("--nodes", type=int, default=0, help="groups on so many Ray nodes")
    parser.add_argument(
        "--over", choices=["tp", "pp"], default="", help="each group on two of them"
    )
    parser.add_argument(
        "--attacks", nargs="*", choices=[*WEIGHTS, *NODE_WEIGHTS], default=[], metavar="NAME"
    )
    parser.add_argument(
        "--kills", action="store_true", help="kill ranks only, each after the last recovery"
    )
    parser.add_argument("--soak", action="store_true", help="no attacks at all")
    parser.add_argument("--supervisor-dies", action="store_true", help="end with a kill -9 of it")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    plan = Plan(
        asked.seed,
        asked.seconds,
        num_requests=asked.requests,
        num_clients=asked.clients,
        attacks=("kill rank",) if asked.kills else tuple(asked.attacks),
        pause_s=asked.seconds * 1000 if asked.soak else asked.pause,
        only_when_whole=asked.kills,
        impatient=not asked.kills,
        supervisor_dies=asked.supervisor_dies,
        echo=True,
    )
    with contextlib.ExitStack() as stack:
        if asked.nodes:
            server, nodes = stack.enter_context(chaos_nodes(asked.nodes, asked.over))
        else:
            server, nodes = stack.enter_context(chaos_server()), []
        report = run(plan, server, nodes)
        if report.failures:
            print(server.stderr)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
