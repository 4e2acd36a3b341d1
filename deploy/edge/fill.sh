#!/bin/sh
# Fills envoy.yaml for one edge, and prints it. Needs sed alone, so that it runs where Envoy does.
#
#   EDGE_REGION             the edge's own region
#   and where the services are, either in files that Envoy watches:
#   EDGE_ENDPOINTS          folder with commands.yaml and queries-<region>.yaml
#   or by DNS, each name with an address for each instance, whether it is well or not:
#   EDGE_COMMANDS           host:port of the command-services
#   EDGE_QUERIES            region=host:port of the query-services, in the order in which regions are asked, the own
#                           one first; separated by spaces
#   and, if it should be something else:
#   EDGE_LISTEN_ADDRESS     0.0.0.0
#   EDGE_LISTEN_PORT        8080
#   EDGE_ADMIN_PORT         9901, on loopback
#   EDGE_TLS_FOLDER         folder with certificate.pem and key.pem; HTTP without it
#   EDGE_ACCESS_LOG         yes: each request is a line on stdout
#   EDGE_CONNECTIONS_MAX    10000
#   EDGE_REQUESTS_PER_SECOND, EDGE_REQUESTS_PER_SECOND_OF_ONE
#                           20000 of all clients, 500 of one address
set -eu

fail() {
    echo "fill.sh: $1" >&2
    exit 1
}

has_port() { # <variable> <host:port>
    case $2 in *:*[!0-9]* | *: | :*) ;; *:*) return ;; esac
    fail "$1: $2 is not host:port"
}

# One priority of a cluster: an address in DNS, and what answers say in x-headwater-upstream.
priority() { # <number> <region> <host:port> <name>
    printf '{ priority: %s, locality: { region: "%s" }, lb_endpoints: [{ ' "$1" "$2"
    printf 'endpoint: { address: { socket_address: { address: "%s", port_value: %s } } }, ' "${3%:*}" "${3##*:}"
    printf 'metadata: { filter_metadata: { headwater: { name: "%s" } } } }] }' "$4"
}

# The lines in the place of those that name files. What DNS no longer names is gone at once, what it names newly is
# asked for its health first.
by_dns() { # <cluster> <overprovisioning factor> <priorities>
    printf 'cluster_type:\\n        name: envoy.cluster.dns\\n        typed_config:\\n'
    printf '          "@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster\\n'
    printf '          dns_refresh_rate: 1s\\n          dns_failure_refresh_rate: { base_interval: 1s, max_interval: 2s }\\n'
    printf '          dns_lookup_family: V4_PREFERRED\\n'
    printf '      load_assignment: { cluster_name: "%s", ' "$1"
    printf 'policy: { overprovisioning_factor: %s }, endpoints: [%s] }' "$2" "$3"
}

: "${EDGE_REGION:?is the region of this edge, such as eu}"
case $EDGE_REGION in *[!A-Za-z0-9_-]*) fail "EDGE_REGION: letters, digits, - and _ only" ;; esac

if [ -n "${EDGE_ENDPOINTS:-}" ]; then
    where="s|\${ENDPOINTS}|$EDGE_ENDPOINTS|g"
else
    : "${EDGE_COMMANDS:?is host:port of the command-services; or name a folder in EDGE_ENDPOINTS}"
    : "${EDGE_QUERIES:?is region=host:port of the query-services, the own region first}"
    has_port EDGE_COMMANDS "$EDGE_COMMANDS"
    queries='' number=0
    for pair in $EDGE_QUERIES; do
        case $pair in *=*) ;; *) fail "EDGE_QUERIES: $pair has no region; expected region=host:port" ;; esac
        has_port EDGE_QUERIES "${pair#*=}"
        [ "$number" -gt 0 ] || [ "${pair%%=*}" = "$EDGE_REGION" ] ||
            fail "EDGE_QUERIES begins with ${pair%%=*}, and the edge is in $EDGE_REGION"
        queries="$queries${queries:+, }$(priority "$number" "${pair%%=*}" "${pair#*=}" "${pair%%=*}/query-service")"
        number=$((number + 1))
    done
    commands=$(by_dns commands 1000000 "$(priority 0 '' "$EDGE_COMMANDS" command-service)")
    queries=$(by_dns "queries-$EDGE_REGION" 140 "$queries")
    where="/type: EDS/d
s|eds_cluster_config: { service_name: commands.*|$commands|
s|eds_cluster_config: { eds_config.*|$queries|"
fi

tls='/#each tls/,/#end/d'
[ -z "${EDGE_TLS_FOLDER:-}" ] || tls="s|\${TLS_FOLDER}|$EDGE_TLS_FOLDER|g"
access_log='/#each access_log/,/#end/d'
[ "${EDGE_ACCESS_LOG:-no}" != yes ] || access_log=''

sed -e "$tls" -e "$access_log" -e "$where" \
    -e "s/\${EACH_REGION}/$EDGE_REGION/g; s/\${REGION}/$EDGE_REGION/g" \
    -e 's/${REGION_RULE}/OVERWRITE_IF_EXISTS_OR_ADD/' \
    -e "s/\${LISTEN_ADDRESS}/${EDGE_LISTEN_ADDRESS:-0.0.0.0}/; s/\${LISTEN_PORT}/${EDGE_LISTEN_PORT:-8080}/" \
    -e "s/\${ADMIN_PORT}/${EDGE_ADMIN_PORT:-9901}/; s/\${CONNECTIONS_MAX}/${EDGE_CONNECTIONS_MAX:-10000}/" \
    -e "s/\${REQUESTS_PER_SECOND}/${EDGE_REQUESTS_PER_SECOND:-20000}/" \
    -e "s/\${REQUESTS_PER_SECOND_OF_ONE}/${EDGE_REQUESTS_PER_SECOND_OF_ONE:-500}/" \
    "$(dirname "$0")/envoy.yaml"
