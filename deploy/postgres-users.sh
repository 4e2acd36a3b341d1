#!/bin/sh
# Makes the services' users in Postgres, or gives them their passwords again. Compose runs it once, when the database is
# made; by hand: PGHOST=… PGUSER=… PGPASSWORD=… POSTGRES_PASSWORD_PROJECTOR=… … sh deploy/postgres-users.sh
# Their rights come from the migrations, which find these roles.
set -eu

psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${PGUSER:-$POSTGRES_USER}" --dbname "${PGDATABASE:-$POSTGRES_DB}" \
    --set projector="$POSTGRES_PASSWORD_PROJECTOR" --set query_service="$POSTGRES_PASSWORD_QUERY_SERVICE" \
    --set replay="$POSTGRES_PASSWORD_REPLAY" <<'SQL'
select format('create role %I nologin', role)
from unnest(array['headwater_projector', 'headwater_query_service', 'headwater_replay']) as role
where to_regrole(role) is null \gexec
select format('create role %I login in role %I', name, 'headwater_' || replace(name, '-', '_'))
from unnest(array['projector', 'query-service', 'replay']) as name
where to_regrole(quote_ident(name)) is null \gexec
alter role "projector" password :'projector';
alter role "query-service" password :'query_service';
alter role "replay" password :'replay';
SQL
