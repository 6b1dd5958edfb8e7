"""A pool worker in Python: started once, it takes jobs as lines of JSON on standard input.

    handlers:
      resize: {pool: [python3, examples/pool.py], timeout: 1m}
"""
import json
import sys

answers, sys.stdout = sys.stdout, sys.stderr  # what is printed by the way goes to the log


class Bury(Exception):
    """Raised for a job that no other attempt can save."""


def say(job, **what):
    print(json.dumps({"id": job["id"], **what}), file=answers, flush=True)


def resize(job):
    payload = job["payload"]
    if not isinstance(payload, dict) or "sizes" not in payload:
        raise Bury("the payload has no `sizes`")
    for nth, size in enumerate(payload["sizes"], 1):
        print(f"resizing to {size}")
        say(job, progress={"percent": 100 * nth / len(payload["sizes"]), "message": f"{size} px"})
    return {"resized": len(payload["sizes"]), "attempt": job["attempt"]}


for line in sys.stdin:
    job = json.loads(line)
    try:
        say(job, result=resize(job))
    except Bury as error:
        say(job, error=str(error), retry=False)
    except Exception as error:
        say(job, error={"class": type(error).__name__, "message": str(error)})
