#!/bin/sh
# Gathers all that an image of one program consists of: the program, the shared libraries that it names, the
# certificates of public authorities, and a user. There is no shell and nothing else, so nothing else needs updates.
#
#   rootfs.sh <program> <folder>
set -eu
program=$1 root=$2

mkdir -p "$root/etc/ssl/certs"
install -m 755 "$program" "$root/service"
strip --strip-debug "$root/service"

# `ldd` prints `name => path (address)`, and for the loader `path (address)`.
ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
    install -D -m 755 "$library" "$root$library"
done

# For the task-worker's mail server.
install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'nobody:x:65532:65532::/:/nologin' >"$root/etc/passwd"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
