-- The owner of the tables, who changes the schema, and the servers' role, whose rights `datavault db grant` gives.
-- PostgreSQL's image runs this once, in an empty data folder, as the superuser.
\set ON_ERROR_STOP on
\set owner_password `cat /run/postgres-secrets/owner-password`
\set service_password `cat /run/postgres-secrets/service-password`
CREATE ROLE datavault_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE datavault LOGIN CONNECTION LIMIT 100 PASSWORD :'service_password';
CREATE DATABASE vault OWNER datavault_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
REVOKE ALL ON DATABASE vault FROM PUBLIC;
GRANT CONNECT ON DATABASE vault TO datavault;
\connect vault
ALTER SCHEMA public OWNER TO datavault_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
