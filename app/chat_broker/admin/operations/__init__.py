"""The rules of operators' requests, one file per noun. They know no web framework and no database.

Every operation is complete when it returns. It raises a BrokerError or the SDK's ChatError.
"""
