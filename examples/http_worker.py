#!/usr/bin/env python3
"""A worker that needs nothing but HTTP. Several may run beside each other and beside goflow's own; if one
is killed, its job goes to another. GOFLOW_SERVER and GOFLOW_TOKEN say where; QUEUES and LEASE_MS may."""
import json, os, signal, sys, threading, time, urllib.error, urllib.request

SERVER = os.environ.get("GOFLOW_SERVER", "http://127.0.0.1:8080")
LEASE_MS = int(os.environ.get("LEASE_MS", "15000"))
QUEUES = [name for name in os.environ.get("QUEUES", "").split(",") if name]
TOKEN = {"Authorization": "Bearer " + os.environ["GOFLOW_TOKEN"]} if "GOFLOW_TOKEN" in os.environ else {}
HEADERS = {"Content-Type": "application/json", **TOKEN}
held, gone, stop = {}, set(), threading.Event()  # epochs by job; leases that are lost; told to end


def call(path, **body):
    request = urllib.request.Request(f"{SERVER}/api/v1/{path}", json.dumps(body).encode(), HEADERS)
    while True:  # every call may be made again: an answer that was lost changes nothing
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                return {"problem": json.load(error)}
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(1)


def beat(worker):
    while not stop.wait(LEASE_MS / 3000):
        jobs = [{"id": job, "epoch": epoch} for job, epoch in list(held.items())]
        alive = call("heartbeat", worker=worker, jobs=jobs, lease_ms=LEASE_MS)
        gone.update((one["id"], one["epoch"]) for one in alive.get("lost", []) + alive.get("cancel", []))


def word_count(job):
    call("progress", id=job["id"], epoch=job["epoch"], percent=50, log="counting\n")
    time.sleep(job["payload"].get("seconds", 0))
    return {"words": len(job["payload"]["text"].split()), "worker": os.getpid()}


handlers, about = {"word_count": word_count}, {"name": f"python-{os.getpid()}"}
signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.is_set():
    leased = call("lease", types=list(handlers), queues=QUEUES, wait_ms=5000, lease_ms=LEASE_MS, jobs=[], **about)
    if "problem" in leased or leased["drain"]:
        sys.exit(leased.get("problem", {}).get("detail"))
    if "worker" not in about:
        about["worker"] = leased["worker"]
        threading.Thread(target=beat, args=(leased["worker"],), daemon=True).start()
    for job in leased["jobs"]:
        lease, held[job["id"]] = {"id": job["id"], "epoch": job["epoch"]}, job["epoch"]
        try:
            end = {"outcome": "completed", "result": handlers[job["type"]](job)}
        except Exception as error:
            end = {"outcome": "failed", "error": {"class": type(error).__name__, "message": str(error)}}
        if (job["id"], job["epoch"]) not in gone:  # else it is somebody else's, and the server would refuse
            call("settle", **lease, **end)
        del held[job["id"]]
call("farewell", worker=about["worker"]) if "worker" in about else None
