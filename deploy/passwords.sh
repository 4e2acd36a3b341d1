#!/bin/sh
# Prints a password for each user of Postgres and NATS that deploy/compose.yaml and deploy/kubernetes name, as lines of
# NAME=value. Each begins with a letter, because nats-server would read one such as 1e5 as a number, and needs no
# escaping in a URL.
set -eu

password() { printf 'p%s' "$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')"; }

for user in ADMIN SYSTEM ROUTES REGION REPLAY COMMAND_SERVICE PROJECTOR QUERY_SERVICE TASK_WORKER; do
    echo "NATS_PASSWORD_$user=$(password)"
done
echo "POSTGRES_PASSWORD=$(password)" # of the owner
for user in PROJECTOR QUERY_SERVICE REPLAY; do
    echo "POSTGRES_PASSWORD_$user=$(password)"
done
