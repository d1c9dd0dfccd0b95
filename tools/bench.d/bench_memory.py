# SPDX-License-Identifier: Apache-2.0
"""What the dataplane's maps and programs take of the kernel's memory with 100 pods and 100 Services, all idle: as the
kernel accounts for each of them."""
import json

from bench_pods import NS, PODS, Watch, pod, room_for
from common import CONNECTIONS, BenchNode, emit, request, wait_quiet
from paths import SERVICES, service

SERVICE_COUNT = 100
GOAL_MB = 8


def measure(options):
    node = BenchNode(*room_for(options.pods), options=options).start()
    node.import_image()
    node.namespace(NS)
    writer, watch = node.connection(), Watch(node)
    names = [f"idle-{i}" for i in range(options.pods)]
    for name in names:
        body = pod(name)
        body["metadata"]["labels"] = {"app": "backend"}
        request(writer, "POST", PODS, body)
    watch.until_ready(names)
    node.requests(CONNECTIONS, SERVICE_COUNT, "POST", SERVICES, json.dumps(service("idle-@")))
    wait_quiet(node, timeout=300)
    plane = node.status()["dataplane"]
    maps, programs = (sum(x["memoryBytes"] for x in plane[kind]) for kind in ("maps", "programs"))
    emit("dataplane_kernel_memory", (maps + programs) / 1e6, "MB", 1, goal=("<=", GOAL_MB), pods=options.pods,
         services=SERVICE_COUNT, maps=maps / 1e6, programs=programs / 1e6)
    largest = sorted(plane["maps"], key=lambda m: -m["memoryBytes"])[:5]
    emit("dataplane_largest_maps", sum(m["memoryBytes"] for m in largest) / 1e6, "MB", len(largest),
         maps={m["name"]: m["memoryBytes"] for m in largest})
    node.close()
