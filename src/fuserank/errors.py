"""Every error that fuserank raises on purpose.

    FuserankError
    ├── ConfigError               an option or configuration file is wrong
    ├── DataError                 interactions, users, items or a text collection are wrong
    │   └── FetchError            a data set or model package could not be fetched or is altered
    ├── SchemaError               fields contradict each other or what they were fitted on
    ├── RequestError              what a caller asks for is malformed
    │   ├── UnknownItemError      an item id that the catalogue does not hold
    │   └── UnknownVersionError   a bundle version that is not loaded
    ├── BundleError               a bundle cannot be used
    │   ├── BundleFormatError     not a bundle, or one of another format version
    │   ├── BundleIntegrityError  a file is missing, truncated or altered
    │   ├── BundleStateError      what is loaded does not allow it now
    │   └── SpaceMismatchError    vectors of one embedding space used with another
    ├── JournalError              the journal of live items is damaged or foreign
    │   └── JournalWriteError     a change to live items could not be written; none of it was
    ├── ProviderError             the execution provider asked for is not there
    ├── ExportError               a model cannot be exported
    │   ├── FactorisationError    a graph cannot be split into user, item and joint parts
    │   ├── GateError             an optimized encoder costs more ranking quality than allowed
    │   └── ParityError           an exported graph does not score as its reference does
    └── ServerError               the server cannot start, or a call to it failed
        ├── OverloadedError       the server has more work than it takes on
        └── UnavailableError      no server answers, or it is not ready

A message names the file or field, what was found, what was expected, and the remedy.
"""

__all__ = [
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleStateError",
    "ConfigError",
    "DataError",
    "ExportError",
    "FactorisationError",
    "FetchError",
    "FuserankError",
    "GateError",
    "JournalError",
    "JournalWriteError",
    "OverloadedError",
    "ParityError",
    "ProviderError",
    "RequestError",
    "SchemaError",
    "ServerError",
    "SpaceMismatchError",
    "UnavailableError",
    "UnknownItemError",
    "UnknownVersionError",
]


class FuserankError(Exception):
    """The root: catch it to catch everything that fuserank raises on purpose."""


class ConfigError(FuserankError):
    """An option or a configuration file is wrong."""


class DataError(FuserankError):
    """Interactions, users, items or texts are wrong; the message names file, line or column."""


class FetchError(DataError):
    """A data set or model package could not be fetched, or is not the one expected."""


class SchemaError(FuserankError):
    """Fields contradict each other or the data they were fitted on."""


class RequestError(FuserankError):
    """What a caller asks for is malformed.

    Attributes:
        field: the request field at fault, or ``""`` where no single one is.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownItemError(RequestError):
    """An item id that the catalogue does not hold."""


class UnknownVersionError(RequestError):
    """A bundle version that the server has not loaded."""


class BundleError(FuserankError):
    """A bundle cannot be used."""


class BundleFormatError(BundleError):
    """The directory is not a bundle, or its format version is not one this release reads."""


class BundleIntegrityError(BundleError):
    """A file of the bundle is missing, truncated or altered."""


class BundleStateError(BundleError):
    """The bundles that a server has loaded do not allow what is asked now."""


class SpaceMismatchError(BundleError):
    """Vectors of one embedding space were used with another."""


class JournalError(FuserankError):
    """The journal of live items is damaged, or is no such journal."""


class JournalWriteError(JournalError):
    """A change to live items could not be written, so that nothing of it was taken."""


class ProviderError(FuserankError):
    """The execution provider that was asked for is not there."""


class ExportError(FuserankError):
    """A model cannot be exported."""


class FactorisationError(ExportError):
    """A graph cannot be split into user, item and joint parts."""


class GateError(ExportError):
    """An optimized encoder costs more ranking quality than the budget allows."""


class ParityError(ExportError):
    """An exported graph does not score as its reference does."""


class ServerError(FuserankError):
    """The server cannot start, or a call to it failed."""


class OverloadedError(ServerError):
    """The server has more work than it takes on.

    Attributes:
        retry_after_s: seconds after which it is worth asking again.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServerError):
    """No server answers at the address, or it is not ready yet."""
