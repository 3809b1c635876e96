"""Several processes that serve one database on the same ports, and the supervisor that keeps them.

supervisor   one process: holds ports and file lock, starts workers, answers health and metrics
crew         what it decides, as a pure state machine; `reload` is its part about policies
worker       a process of its own: the service as `serve` runs it, led by the supervisor through a socket
"""
