CREATE TABLE admin_keys (
    id character varying(64) NOT NULL,
    name character varying(128) NOT NULL,
    digest bytea NOT NULL,
    scopes character varying(500) NOT NULL,
    created_at character varying(32) NOT NULL,
    created_by character varying(64) NOT NULL,
    expires_at character varying(32),
    revoked_at character varying(32),
    CONSTRAINT admin_keys_pkey PRIMARY KEY (id)
);
CREATE TABLE audit (
    seq bigint NOT NULL,
    id character varying(64) NOT NULL,
    at character varying(32) NOT NULL,
    actor character varying(64) NOT NULL,
    action character varying(64) NOT NULL,
    subject text,
    outcome character varying(16) NOT NULL,
    reason text,
    ip character varying(64) NOT NULL,
    request_id character varying(64) NOT NULL,
    detail text NOT NULL,
    previous character varying(64) NOT NULL,
    hash character varying(64) NOT NULL,
    also text,
    CONSTRAINT audit_pkey PRIMARY KEY (seq),
    CONSTRAINT audit_id_key UNIQUE (id)
);
CREATE TABLE audit_head (
    one integer NOT NULL,
    seq bigint NOT NULL,
    hash character varying(64) NOT NULL,
    CONSTRAINT audit_head_pkey PRIMARY KEY (one)
);
INSERT INTO audit_head VALUES ('1', '0', '0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE audit_open (
    id character varying(64) NOT NULL,
    fold_key character varying(128),
    since character varying(32) NOT NULL,
    count integer NOT NULL,
    record text NOT NULL,
    CONSTRAINT audit_open_pkey PRIMARY KEY (id),
    CONSTRAINT audit_open_fold_key_key UNIQUE (fold_key)
);
CREATE TABLE bans (
    id character varying(64) NOT NULL,
    user_id character varying(64) NOT NULL,
    external_user_id character varying(255) NOT NULL,
    reason character varying(500) NOT NULL,
    by character varying(64) NOT NULL,
    created_at character varying(32) NOT NULL,
    until character varying(32),
    lifted_at character varying(32),
    lifted_by character varying(64),
    suspended boolean NOT NULL,
    pending character varying(16),
    CONSTRAINT bans_pkey PRIMARY KEY (id)
);
CREATE TABLE broker_deployment (
    one integer NOT NULL,
    id character varying(32) NOT NULL,
    CONSTRAINT broker_deployment_pkey PRIMARY KEY (one)
);
CREATE TABLE broker_schema (
    version_num character varying(32) NOT NULL,
    CONSTRAINT broker_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO broker_schema VALUES ('0003');
CREATE TABLE links (
    project_id character varying(64) NOT NULL,
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id character varying(64) NOT NULL,
    external_id text NOT NULL,
    display_name text,
    email text,
    CONSTRAINT links_pkey PRIMARY KEY (project_id, issuer, subject),
    CONSTRAINT links_one_principal_per_user UNIQUE (project_id, user_id)
);
CREATE TABLE processes (
    id character varying(64) NOT NULL,
    started_at bigint NOT NULL,
    seen_at bigint NOT NULL,
    CONSTRAINT processes_pkey PRIMARY KEY (id)
);
CREATE TABLE revocation_marks (
    whose character varying(257) NOT NULL,
    mark bigint NOT NULL,
    CONSTRAINT revocation_marks_pkey PRIMARY KEY (whose)
);
CREATE INDEX audit_action ON audit USING btree (action, seq);
CREATE INDEX audit_actor ON audit USING btree (actor, seq);
CREATE INDEX audit_also ON audit USING btree (also, seq);
CREATE INDEX audit_subject ON audit USING btree (subject, seq);
CREATE UNIQUE INDEX bans_in_force ON bans USING btree (external_user_id) WHERE lifted_at IS NULL;
CREATE INDEX bans_of_user ON bans USING btree (external_user_id, created_at);
CREATE INDEX bans_to_settle ON bans USING btree (until) WHERE suspended OR pending IS NOT NULL;
CREATE INDEX ix_audit_at ON audit USING btree (at);
CREATE INDEX ix_audit_open_since ON audit_open USING btree (since);
