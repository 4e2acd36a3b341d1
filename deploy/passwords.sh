#!/bin/sh
# Prints a password for each user of Postgres and NATS that deploy/compose.yaml and deploy/kubernetes name, as lines of
# NAME=value. Each begins with a letter, because nats-server would read one such as 1e5 as a number, and needs no
# escaping in a URL.
set -eu

password() { printf 'p%s' "$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')"; }

for user in POSTGRES NATS_ADMIN NATS_SYSTEM NATS_ROUTES NATS_REGION NATS_REPLAY NATS_COMMAND_SERVICE NATS_PROJECTOR NATS_QUERY_SERVICE NATS_TASK_WORKER; do
    case $user in
    NATS_*) printf 'NATS_PASSWORD_%s=%s\n' "${user#NATS_}" "$(password)" ;;
    *) printf '%s_PASSWORD=%s\n' "$user" "$(password)" ;;
    esac
done
