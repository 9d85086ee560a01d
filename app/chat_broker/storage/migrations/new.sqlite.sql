CREATE TABLE admin_keys (
    id VARCHAR(64) NOT NULL,
    name VARCHAR(128) NOT NULL,
    digest BLOB NOT NULL,
    scopes VARCHAR(500) NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    created_by VARCHAR(64) NOT NULL,
    expires_at VARCHAR(32),
    revoked_at VARCHAR(32),
    PRIMARY KEY (id)
);
CREATE TABLE audit (
    seq BIGINT NOT NULL,
    id VARCHAR(64) NOT NULL,
    at VARCHAR(32) NOT NULL,
    actor VARCHAR(64) NOT NULL,
    action VARCHAR(64) NOT NULL,
    subject TEXT,
    outcome VARCHAR(16) NOT NULL,
    reason TEXT,
    ip VARCHAR(64) NOT NULL,
    request_id VARCHAR(64) NOT NULL,
    detail TEXT NOT NULL,
    previous VARCHAR(64) NOT NULL,
    hash VARCHAR(64) NOT NULL,
    also TEXT,
    PRIMARY KEY (seq),
    UNIQUE (id)
);
CREATE TABLE audit_head (
    one INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    hash VARCHAR(64) NOT NULL,
    PRIMARY KEY (one)
);
INSERT INTO "audit_head" VALUES(1,0,'0000000000000000000000000000000000000000000000000000000000000000');
CREATE TABLE audit_open (
    id VARCHAR(64) NOT NULL,
    fold_key VARCHAR(128),
    since VARCHAR(32) NOT NULL,
    count INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (fold_key)
);
CREATE TABLE bans (
    id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    external_user_id VARCHAR(255) NOT NULL,
    reason VARCHAR(500) NOT NULL,
    "by" VARCHAR(64) NOT NULL,
    created_at VARCHAR(32) NOT NULL,
    until VARCHAR(32),
    lifted_at VARCHAR(32),
    lifted_by VARCHAR(64),
    suspended BOOLEAN NOT NULL,
    pending VARCHAR(16),
    PRIMARY KEY (id)
);
CREATE TABLE broker_deployment (
    one INTEGER NOT NULL,
    id VARCHAR(32) NOT NULL,
    PRIMARY KEY (one)
);
CREATE TABLE broker_schema (version_num VARCHAR(32) NOT NULL, CONSTRAINT broker_schema_pkc PRIMARY KEY (version_num));
INSERT INTO "broker_schema" VALUES('0003');
CREATE TABLE links (
    project_id VARCHAR(64) NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    external_id TEXT NOT NULL,
    display_name TEXT,
    email TEXT,
    PRIMARY KEY (project_id, issuer, subject),
    CONSTRAINT links_one_principal_per_user UNIQUE (project_id, user_id)
);
CREATE TABLE processes (
    id VARCHAR(64) NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE revocation_marks (
    whose VARCHAR(257) NOT NULL,
    mark BIGINT NOT NULL,
    PRIMARY KEY (whose)
);
CREATE INDEX bans_of_user ON bans (external_user_id, created_at);
CREATE UNIQUE INDEX bans_in_force ON bans (external_user_id) WHERE lifted_at IS NULL;
CREATE INDEX bans_to_settle ON bans (until) WHERE suspended OR pending IS NOT NULL;
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_action ON audit (action, seq);
CREATE INDEX audit_subject ON audit (subject, seq);
CREATE INDEX audit_also ON audit (also, seq);
CREATE INDEX ix_audit_open_since ON audit_open (since);
