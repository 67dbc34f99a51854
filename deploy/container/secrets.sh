#!/bin/sh
# Write the secrets of compose.yaml, those that are not there yet. Only their directory is closed to others: the
# containers run as another user and read the files themselves.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
cd secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -s "$1" ] || printf %s "$2" > "$1"; }

for name in owner_password data_plane_password control_plane_password pepper services_key grafana_password; do
    keep $name "$(random)"
done
keep owner_dsn "postgresql://tallygate:$(cat owner_password)@postgres:5432/tallygate"
keep data_plane_dsn "postgresql://data_plane:$(cat data_plane_password)@postgres:5432/tallygate"
keep control_plane_dsn "postgresql://control_plane:$(cat control_plane_password)@postgres:5432/tallygate"
keep redis_url "redis://valkey:6379/0"
chmod 644 ./*
