"""The HTTP server: waitress, with deadlines for slow clients, a cap for each address, and turns between clients.

Waitress reads whole requests, and keeps whole answers, in one thread that waits for nobody. A thread of the application
works on a request only when all of it is there, so a client that is slow costs a connection and some disk, no thread.
"""
