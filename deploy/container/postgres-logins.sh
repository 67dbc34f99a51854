#!/bin/sh
# Run by Postgres's container when the database is new: one login for each plane, with the rights that migrations
# give to the roles tallygate_dataplane and tallygate_control, and no others.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set data_plane="$(cat /run/secrets/data_plane_password)" \
    --set control_plane="$(cat /run/secrets/control_plane_password)" <<'SQL'
CREATE ROLE tallygate_dataplane NOLOGIN;
CREATE ROLE tallygate_control NOLOGIN;
CREATE ROLE data_plane LOGIN PASSWORD :'data_plane' IN ROLE tallygate_dataplane;
CREATE ROLE control_plane LOGIN PASSWORD :'control_plane' IN ROLE tallygate_control;
SQL
