"""How gunicorn serves the shop; what was tried stands in docs/benchmarks.md."""

import os

bind = os.environ["HEADWATER_LISTEN"]
# Sync workers would close the connection after each answer.
worker_class = "gthread"
workers = int(os.environ.get("WORKERS", "5"))
threads = int(os.environ.get("THREADS", "4"))
# The bench keeps its connections for longer than any load takes.
keepalive = 120
worker_connections = 2000
wsgi_app = "shop.wsgi"
loglevel = "warning"
# Not in the home of whoever measures.
control_socket_disable = True
# Connections that are kept alive would hold up the end.
graceful_timeout = 1
