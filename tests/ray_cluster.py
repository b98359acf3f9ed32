"""A Ray cluster of two nodes with a core each, in a process of its own.

It prints its address; a line on standard input kills the second node, and the end of input, all.
Ray puts a handler of SIGTERM and threads into the process that starts it. Processes that tests fork
later from such a one sometimes never end.
"""

import sys

import ray
from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        second = cluster.add_node(num_cpus=1)
        print(cluster.address, flush=True)
        if sys.stdin.readline():
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
            sys.stdin.read()
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
