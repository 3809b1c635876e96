"""PostgreSQL as the store uses it: how connections are opened, and what its errors mean.

The driver's connections are in autocommit mode, so that one statement is one transaction and one round trip;
blocks of several statements begin and commit explicitly.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from vault.domain.errors import ConfigurationError, ConflictError, DatavaultError, StoreUnavailableError

CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 10
LOCK_SECONDS: Final = 5
IDLE_SECONDS: Final = 10
"""How long the server lets a transaction wait for its next statement."""

_SESSION: Final = (
    f"-c statement_timeout={STATEMENT_SECONDS}s"
    f" -c lock_timeout={LOCK_SECONDS}s"
    f" -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
    # a lone statement is a transaction too, whatever the role or the database is set to
    r" -c default_transaction_isolation=read\ committed"
    " -c default_transaction_read_only=off -c default_transaction_deferrable=off"
    # short statements of known shape: compiling them costs more than it saves
    " -c jit=off -c timezone=UTC -c search_path=public"
)
_DEFAULTS: Final[Mapping[str, str]] = {
    "application_name": "datavault",
    "connect_timeout": str(CONNECT_SECONDS),
    # after a failover a standby must not take the place of the primary
    "target_session_attrs": "read-write",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_encoding": "utf8",
}
NOT_REACHED: Final = "the database cannot be reached, or refuses the login"
_RIGHT: Final = "DATAVAULT_DATABASE_URL: must be postgresql://USER@HOST:PORT/NAME"

_UNAVAILABLE: Final = {
    "25006": "the database is read-only",
    "26000": "the database changed its schema",
    "42501": "the database does not let this user do this",
    "42P01": "the database has another schema",
    "42703": "the database has another schema",
    "53100": "the disk of the database is full",
    "53200": "the database has no memory left",
    "53300": "the database takes no more connections",
    "55P03": "the database is locked",
    "57014": "the database took too long",
    "57P01": "the database is stopping",
    "57P02": "the database stopped",
    "57P03": "the database does not take connections now",
    "57P05": "the database closed an idle connection",
    "58030": "the database cannot be read or written",
    "XX001": "the database is damaged",
    "XX002": "the database is damaged",
}
_CONFLICTS: Final = frozenset({"23503", "23505", "40001", "40P01", "25P03"})
"""Unique and foreign key, serialization failure, deadlock, and a transaction that idled too long."""
_UNKNOWN_OUTCOME: Final = ("08", "57P", "40003", "XX")
"""SQLSTATEs after which a COMMIT may have happened."""


def parameters(url: str, *, production: bool) -> dict[str, Any]:
    """The driver's parameters for a URL (libpq's connection URI), with ours where it names none.

    Raises:
        ConfigurationError: not such a URL; or `production` and TLS would not check who the server is.
    """
    rest = url.partition("://")[2]
    try:
        given = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.Error:
        raise ConfigurationError(_RIGHT) from None
    if not given.get("dbname"):
        raise ConfigurationError(f"{_RIGHT}; the name of the database is missing")
    if production and not _is_local(given) and given.get("sslmode") != "verify-full":
        raise ConfigurationError(
            "DATAVAULT_DATABASE_URL: in production it must end in ?sslmode=verify-full&sslrootcert=FILE, "
            "so that nobody else can answer for the database"
        )
    if "options" in given:
        raise ConfigurationError("DATAVAULT_DATABASE_URL: options= is not for the URL: datavault sets them")
    return {**_DEFAULTS, **given, "options": _SESSION}


def display_name(connection: Mapping[str, Any]) -> str:
    """What messages call the database: where it is, without user and password."""
    host = connection.get("host") or connection.get("hostaddr") or "local"
    port = str(connection.get("port") or "").strip(",")
    return f"postgresql://{host}{f':{port}' if port else ''}/{connection['dbname']}"


def engine(connection: Mapping[str, Any], password: Callable[[], str | None]) -> Engine:
    """An engine without a pool. `password` is asked at each connect, so that a new one needs no restart."""

    def connect() -> psycopg.Connection[Any]:
        secret = password()
        given = {**connection, "password": secret} if secret else dict(connection)
        try:
            return psycopg.connect(**given, autocommit=True)
        except psycopg.OperationalError:
            # libpq gives no SQLSTATE here, and its text names host and user
            raise StoreUnavailableError(NOT_REACHED) from None

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=NullPool,
        hide_parameters=True,
        use_native_hstore=False,
    )


def raw(connection: Connection) -> psycopg.Connection[Any]:
    """The driver's own connection: a statement on it costs half of one through SQLAlchemy."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise DatavaultError("the connection is not one of PostgreSQL")
    return driver


def translate(error: BaseException) -> DatavaultError | None:
    """What a database error means to a caller, without SQL, parameters or host; None for other errors."""
    if not isinstance(error, (psycopg.Error, SQLAlchemyError)):
        return None
    state = _sqlstate(error)
    if state in _CONFLICTS:
        translated: DatavaultError = ConflictError("another change was first")
    elif state in _UNAVAILABLE:
        translated = StoreUnavailableError(_UNAVAILABLE[state])
    elif state.startswith("28"):
        translated = StoreUnavailableError("the database refuses the login")
    elif state.startswith("3D"):
        translated = StoreUnavailableError("there is no such database")
    elif state.startswith("08") or (not state and _is_of_connection(error)):
        translated = StoreUnavailableError("the database does not answer")
    elif state.startswith("53"):
        translated = StoreUnavailableError("the database is overloaded")
    elif state.startswith("23"):
        translated = StoreUnavailableError("the change does not fit what is stored by now")
    else:
        translated = DatavaultError("the database refused a statement")
    # the code tells an engineer what to look for and shows no data
    translated.add_note(state or type(_origin(error)).__name__)
    return translated


def surely_not_committed(error: BaseException) -> bool:
    """Whether a COMMIT, or a statement that commits by itself, that failed with `error` changed nothing."""
    state = _sqlstate(error)
    return not state.startswith(_UNKNOWN_OUTCOME) if state else not _is_of_connection(error)


def is_lost(error: BaseException) -> bool:
    """Whether the connection was lost, and not only a statement refused."""
    state = _sqlstate(error)
    return state.startswith(("08", "57P")) if state else _is_of_connection(error)


def _is_of_connection(error: BaseException) -> bool:
    """Whether an error without SQLSTATE is one between client and server, and not one of the program."""
    origin = _origin(error)
    return not isinstance(origin, (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError))


def _origin(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _sqlstate(error: BaseException) -> str:
    return getattr(_origin(error), "sqlstate", None) or ""


def _is_local(connection: Mapping[str, Any]) -> bool:
    """Whether it is a Unix socket, which leaves the machine never."""
    host = str(connection.get("host") or "")
    return not connection.get("hostaddr") and all(each.startswith(("/", "@")) for each in host.split(","))
