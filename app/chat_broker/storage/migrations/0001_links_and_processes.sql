-- Links between principals and chat users; one row for each running process.

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
