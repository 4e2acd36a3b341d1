#!/bin/sh
# Prints values for the chart `nats`: accounts and permissions as they are in nats/, for a namespace of Headwater.
#   sh deploy/kubernetes/nats/users.sh headwater > users.yaml
# The chart keeps them in the ConfigMap of the server's own configuration, where files have no folders.
set -eu

namespace=${1:?name the namespace, as HEADWATER_NAMESPACE does}
nats=$(dirname "$0")/../../../nats

printf 'configMap:\n  merge:\n    data:\n'
for file in "$nats"/accounts.conf "$nats"/permissions/*.conf; do
    printf '      %s: |\n' "$(basename "$file")"
    sed "s/{namespace}/$namespace/g; s|\./permissions/|./|; s/^/        /" "$file"
done
