"""The storage of the admin services, in the broker's database."""

from chat_broker.admin.services import AdminStorage
from chat_broker.settings import Settings
from chat_broker.storage.admin_keys import SqlAdminKeys
from chat_broker.storage.audit import SqlAudit
from chat_broker.storage.bans import SqlBans
from chat_broker.storage.open import State


def admin_storage(settings: Settings, state: State) -> AdminStorage:
    """The storage of the admin services, on databases that are already open."""
    audit = SqlAudit(state.database)
    return AdminStorage(
        keys=SqlAdminKeys(state.database),
        bans=SqlBans(state.database),
        chain=audit,
        pending=audit,
        room_changes=state.room_changes,
        hints=state.hints,
        alone=state.database.name == "sqlite" and state.redis is None and settings.workers == 1,
    )
