"""What the operators' side keeps, in the broker's database."""

from chat_broker.admin.operators import OperatorStorage
from chat_broker.settings import Settings
from chat_broker.storage.admin_keys import SqlAdminKeys
from chat_broker.storage.audit import SqlAudit
from chat_broker.storage.bans import SqlBans
from chat_broker.storage.open import State


def operator_storage(settings: Settings, state: State) -> OperatorStorage:
    """The storage of the operators' side, over what is open already."""
    audit = SqlAudit(state.database)
    return OperatorStorage(
        keys=SqlAdminKeys(state.database),
        bans=SqlBans(state.database),
        chain=audit,
        open_entries=audit,
        room_changes=state.room_changes,
        hints=state.hints,
        alone=state.database.name == "sqlite" and state.redis is None and settings.workers == 1,
    )
