"""What would keep the broker from running, looked at before it starts."""

from app.settings import Settings
from app.state.migrate import SCHEMA
from app.upstream import check_chat_database
from chat_broker_kit.database_check import make_folder, schema_version
from chat_broker_kit.database_failures import CannotOpenDatabase


def database_urls(settings: Settings) -> dict[str, str]:
    """The URL of each database that is opened here, by the name of its setting."""
    urls = {"DATABASE_URL": settings.broker_database}
    if settings.embedded:
        urls["CHAT_DATABASE_URL"] = settings.chat_database
    return urls


async def check_database(settings: Settings, name: str) -> str | None:
    """The schema's version behind DATABASE_URL or CHAT_DATABASE_URL, None if there is none yet.

    Changes nothing. Raises CannotOpenDatabase.
    """
    if name == "CHAT_DATABASE_URL":
        return await check_chat_database(settings)
    return await schema_version(settings.broker_database, SCHEMA)


def setting_to_mend(settings: Settings, name: str) -> str:
    """*name*, or DATA_DIR where that says where the database is."""
    return name if getattr(settings, name.lower()) is not None else "DATA_DIR"


async def database_problems(settings: Settings) -> list[str]:
    """For each database that cannot be opened: `NAME: what is wrong; what to do`. Makes DATA_DIR."""
    problems = []
    for name, url in database_urls(settings).items():
        try:
            await check_database(settings, name)
            make_folder(url)
        except CannotOpenDatabase as error:
            problems.append(f"{setting_to_mend(settings, name)}: {error}")
    # One folder that cannot be written to is one problem, for two databases.
    return list(dict.fromkeys(problems))
