"""A process for procmgr to start: `stand_in.py [ready] [deaf] [exit=N] [child] [FILE]`.

It says that it stands if `ready`, ends at once with a code if `exit=`, heeds no signal if `deaf`, and has a child in its session if `child`. Else SIGINT ends it
with 10 and SIGTERM with 11. It writes its pid, its child's and its environment into FILE as JSON.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

words = sys.argv[1:]
for word in words:
    if word.startswith("exit="):
        print("these are its last words", flush=True)
        sys.exit(int(word[5:]))
for number, code in ((signal.SIGINT, 10), (signal.SIGTERM, 11)):
    signal.signal(number, signal.SIG_IGN if "deaf" in words else lambda *_, code=code: sys.exit(code))
child = (
    subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"]) if "child" in words else None
)
for word in words:
    if word.startswith("/"):
        with open(word + ".part", "w") as file:
            json.dump({"pid": os.getpid(), "child": child and child.pid, "env": dict(os.environ)}, file)
        os.rename(word + ".part", word)
if "ready" in words:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(
            f"READY=1\nDRP_PROCESS={os.environ['DRP_PROCESS']}\n".encode(), os.environ["NOTIFY_SOCKET"]
        )
print("stands", flush=True)
while True:
    time.sleep(600)
