-- The id of the deployment, which its replicas share.
CREATE TABLE broker_deployment (
    one INTEGER NOT NULL,
    id VARCHAR(32) NOT NULL,
    PRIMARY KEY (one)
);
