-- The id of the deployment, which its replicas share.
CREATE TABLE chat_deployment (
    one INTEGER NOT NULL,
    id TEXT NOT NULL,
    CONSTRAINT pk_chat_deployment PRIMARY KEY (one)
);
