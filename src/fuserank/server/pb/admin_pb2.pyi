from fuserank.server.pb import recommender_pb2 as _recommender_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BundleRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUNDLE_ROLE_UNSPECIFIED: _ClassVar[BundleRole]
    BUNDLE_ROLE_ACTIVE: _ClassVar[BundleRole]
    BUNDLE_ROLE_PREVIOUS: _ClassVar[BundleRole]
    BUNDLE_ROLE_CANDIDATE: _ClassVar[BundleRole]
BUNDLE_ROLE_UNSPECIFIED: BundleRole
BUNDLE_ROLE_ACTIVE: BundleRole
BUNDLE_ROLE_PREVIOUS: BundleRole
BUNDLE_ROLE_CANDIDATE: BundleRole

class LoadedBundle(_message.Message):
    __slots__ = ("bundle_info", "role", "shadow")
    BUNDLE_INFO_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    bundle_info: _recommender_pb2.BundleInfo
    role: BundleRole
    shadow: ShadowComparison
    def __init__(self, bundle_info: _Optional[_Union[_recommender_pb2.BundleInfo, _Mapping]] = ..., role: _Optional[_Union[BundleRole, str]] = ..., shadow: _Optional[_Union[ShadowComparison, _Mapping]] = ...) -> None: ...

class ShadowComparison(_message.Message):
    __slots__ = ("request_count", "rank_biased_overlap", "error_count")
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    RANK_BIASED_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    ERROR_COUNT_FIELD_NUMBER: _ClassVar[int]
    request_count: int
    rank_biased_overlap: float
    error_count: int
    def __init__(self, request_count: _Optional[int] = ..., rank_biased_overlap: _Optional[float] = ..., error_count: _Optional[int] = ...) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBundlesResponse(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedCompositeFieldContainer[LoadedBundle]
    def __init__(self, bundles: _Optional[_Iterable[_Union[LoadedBundle, _Mapping]]] = ...) -> None: ...

class LoadBundleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class LoadBundleResponse(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: LoadedBundle
    def __init__(self, bundle: _Optional[_Union[LoadedBundle, _Mapping]] = ...) -> None: ...

class PromoteBundleRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class PromoteBundleResponse(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: LoadedBundle
    def __init__(self, bundle: _Optional[_Union[LoadedBundle, _Mapping]] = ...) -> None: ...

class RollbackBundleRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RollbackBundleResponse(_message.Message):
    __slots__ = ("bundle",)
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: LoadedBundle
    def __init__(self, bundle: _Optional[_Union[LoadedBundle, _Mapping]] = ...) -> None: ...

class ForgetUserRequest(_message.Message):
    __slots__ = ("user_id",)
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    def __init__(self, user_id: _Optional[str] = ...) -> None: ...

class ForgetUserResponse(_message.Message):
    __slots__ = ("dropped_count",)
    DROPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    dropped_count: int
    def __init__(self, dropped_count: _Optional[int] = ...) -> None: ...
