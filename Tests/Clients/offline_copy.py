"""Works with one offline copy, as lines say, and prints a line of JSON for each: its rows, or its error.

usage: offline_copy.py URL MODULE PATH
`sync` pushes or pulls, `die` ends the process as kill -9 does, `info` keeps what the library knows of
the node, `forget` brings that back; all else is SQL.
"""

import json
import os
import shutil
import signal
import sys

import copies

URL, MODULE, PATH = sys.argv[1].rstrip("/"), sys.argv[2], sys.argv[3]


def main():
    client = None
    for line in sys.stdin:
        line = line.strip()
        answer = []
        try:
            if client is None:
                client = copies.connect(MODULE, PATH, URL, offline=True)
            if line == "sync":
                client.sync()
            elif line == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            elif line == "info":
                shutil.copy(PATH + "-info", PATH + "-kept")
            elif line == "forget":
                shutil.copy(PATH + "-kept", PATH + "-info")
            else:
                answer = client.run(line)
        except BaseException as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


main()
