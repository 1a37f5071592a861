"""dialog.py SOCKET [ok|no|ask] [KEYFILE] - the framework's side of adbd's control socket.

Connects to the stand-in device's /dev/socket/adbd (start it with ADBD_AUTH_SOCKET=1
and ro.adb.secure=1) and answers each "Allow USB debugging?" request. With KEYFILE an
allowed key is appended there ("always allow"); the device reads
/data/misc/adb/adb_keys on every connection.
"""
import socket
import sys

path, answer, keyfile = ([*sys.argv[1:], "ok", None])[:3]
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(path)
while True:
    packet = s.recv(65536)
    if not packet:
        break
    kind, key = packet[:2], packet[2:].rstrip(b"\0\n")
    print(kind.decode(), key.decode(errors="replace")[-60:], flush=True)
    if kind != b"PK":
        continue
    allowed = answer == "ok" or (answer == "ask" and input("allow? ") == "y")
    if allowed and keyfile:
        with open(keyfile, "ab") as f:
            f.write(key + b"\n")
    s.send(b"OK" if allowed else b"NO")
