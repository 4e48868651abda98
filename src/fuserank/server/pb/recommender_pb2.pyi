from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class ServedAs(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVED_AS_UNSPECIFIED: _ClassVar[ServedAs]
    SERVED_AS_KNOWN: _ClassVar[ServedAs]
    SERVED_AS_UNKNOWN: _ClassVar[ServedAs]
    SERVED_AS_COLD: _ClassVar[ServedAs]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
SERVED_AS_UNSPECIFIED: ServedAs
SERVED_AS_KNOWN: ServedAs
SERVED_AS_UNKNOWN: ServedAs
SERVED_AS_COLD: ServedAs

class User(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.MessageMap[str, Value]
    def __init__(self, fields: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("string_value", "number_value", "string_list", "number_list")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_LIST_FIELD_NUMBER: _ClassVar[int]
    NUMBER_LIST_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    number_value: float
    string_list: StringList
    number_list: NumberList
    def __init__(self, string_value: _Optional[str] = ..., number_value: _Optional[float] = ..., string_list: _Optional[_Union[StringList, _Mapping]] = ..., number_list: _Optional[_Union[NumberList, _Mapping]] = ...) -> None: ...

class StringList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class NumberList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class ItemIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Eligibility(_message.Message):
    __slots__ = ("exclude", "allow", "include_seen", "where")
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    exclude: _containers.RepeatedScalarFieldContainer[str]
    allow: ItemIds
    include_seen: bool
    where: _containers.RepeatedCompositeFieldContainer[Predicate]
    def __init__(self, exclude: _Optional[_Iterable[str]] = ..., allow: _Optional[_Union[ItemIds, _Mapping]] = ..., include_seen: _Optional[bool] = ..., where: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ...) -> None: ...

class Predicate(_message.Message):
    __slots__ = ("attribute", "equals", "one_of", "range")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    EQUALS_FIELD_NUMBER: _ClassVar[int]
    ONE_OF_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    equals: Value
    one_of: Values
    range: Range
    def __init__(self, attribute: _Optional[str] = ..., equals: _Optional[_Union[Value, _Mapping]] = ..., one_of: _Optional[_Union[Values, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("least", "most")
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    least: float
    most: float
    def __init__(self, least: _Optional[float] = ..., most: _Optional[float] = ...) -> None: ...

class Cap(_message.Message):
    __slots__ = ("attribute", "most")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    most: int
    def __init__(self, attribute: _Optional[str] = ..., most: _Optional[int] = ...) -> None: ...

class Diversity(_message.Message):
    __slots__ = ("weight", "candidates")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    weight: float
    candidates: int
    def __init__(self, weight: _Optional[float] = ..., candidates: _Optional[int] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("user", "k", "eligibility", "include_attributes", "caps", "diversity", "priority")
    USER_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    ELIGIBILITY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    user: User
    k: int
    eligibility: Eligibility
    include_attributes: bool
    caps: _containers.RepeatedCompositeFieldContainer[Cap]
    diversity: Diversity
    priority: Priority
    def __init__(self, user: _Optional[_Union[User, _Mapping]] = ..., k: _Optional[int] = ..., eligibility: _Optional[_Union[Eligibility, _Mapping]] = ..., include_attributes: _Optional[bool] = ..., caps: _Optional[_Iterable[_Union[Cap, _Mapping]]] = ..., diversity: _Optional[_Union[Diversity, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("recommendation", "served_by")
    RECOMMENDATION_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    recommendation: Recommendation
    served_by: ServedBy
    def __init__(self, recommendation: _Optional[_Union[Recommendation, _Mapping]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class RecommendBatchRequest(_message.Message):
    __slots__ = ("users", "k", "eligibility", "include_attributes", "caps", "diversity", "priority")
    USERS_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    ELIGIBILITY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[User]
    k: int
    eligibility: Eligibility
    include_attributes: bool
    caps: _containers.RepeatedCompositeFieldContainer[Cap]
    diversity: Diversity
    priority: Priority
    def __init__(self, users: _Optional[_Iterable[_Union[User, _Mapping]]] = ..., k: _Optional[int] = ..., eligibility: _Optional[_Union[Eligibility, _Mapping]] = ..., include_attributes: _Optional[bool] = ..., caps: _Optional[_Iterable[_Union[Cap, _Mapping]]] = ..., diversity: _Optional[_Union[Diversity, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class RecommendStreamRequest(_message.Message):
    __slots__ = ("id", "request", "timeout_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    request: RecommendRequest
    timeout_ms: int
    def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[RecommendRequest, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class RecommendStreamResponse(_message.Message):
    __slots__ = ("id", "response", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    response: RecommendResponse
    error: CallError
    def __init__(self, id: _Optional[int] = ..., response: _Optional[_Union[RecommendResponse, _Mapping]] = ..., error: _Optional[_Union[CallError, _Mapping]] = ...) -> None: ...

class CallError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class RecommendBatchResponse(_message.Message):
    __slots__ = ("recommendations", "served_by")
    RECOMMENDATIONS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    recommendations: _containers.RepeatedCompositeFieldContainer[Recommendation]
    served_by: ServedBy
    def __init__(self, recommendations: _Optional[_Iterable[_Union[Recommendation, _Mapping]]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class Recommendation(_message.Message):
    __slots__ = ("item_ids", "scores", "probabilities", "attributes", "served_as", "plan", "timings", "degraded", "degraded_reason")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASON_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    attributes: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    served_as: ServedAs
    plan: str
    timings: Timings
    degraded: bool
    degraded_reason: str
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., probabilities: _Optional[_Iterable[float]] = ..., attributes: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., served_as: _Optional[_Union[ServedAs, str]] = ..., plan: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., degraded: _Optional[bool] = ..., degraded_reason: _Optional[str] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("user", "item_ids")
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    user: User
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user: _Optional[_Union[User, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores", "probabilities", "served_as", "timings", "served_by")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    SERVED_AS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    served_as: ServedAs
    timings: Timings
    served_by: ServedBy
    def __init__(self, scores: _Optional[_Iterable[float]] = ..., probabilities: _Optional[_Iterable[float]] = ..., served_as: _Optional[_Union[ServedAs, str]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("vectors", "dim", "space", "timings", "served_by")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    vectors: bytes
    dim: int
    space: str
    timings: Timings
    served_by: ServedBy
    def __init__(self, vectors: _Optional[bytes] = ..., dim: _Optional[int] = ..., space: _Optional[str] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("item_id", "attributes")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    attributes: _struct_pb2.Struct
    def __init__(self, item_id: _Optional[str] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class UpsertItemsRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class UpsertItemsResponse(_message.Message):
    __slots__ = ("upserted_count", "served_by")
    UPSERTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    upserted_count: int
    served_by: ServedBy
    def __init__(self, upserted_count: _Optional[int] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class DeleteItemsRequest(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteItemsResponse(_message.Message):
    __slots__ = ("deleted_count", "served_by")
    DELETED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    deleted_count: int
    served_by: ServedBy
    def __init__(self, deleted_count: _Optional[int] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class GetItemRequest(_message.Message):
    __slots__ = ("item_id",)
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    def __init__(self, item_id: _Optional[str] = ...) -> None: ...

class GetItemResponse(_message.Message):
    __slots__ = ("item", "live", "served_by")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    item: Item
    live: bool
    served_by: ServedBy
    def __init__(self, item: _Optional[_Union[Item, _Mapping]] = ..., live: _Optional[bool] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ...) -> None: ...

class GetBundleInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBundleInfoResponse(_message.Message):
    __slots__ = ("bundle_info",)
    BUNDLE_INFO_FIELD_NUMBER: _ClassVar[int]
    bundle_info: BundleInfo
    def __init__(self, bundle_info: _Optional[_Union[BundleInfo, _Mapping]] = ...) -> None: ...

class BundleInfo(_message.Message):
    __slots__ = ("name", "version", "format_version", "space", "model", "scorer", "item_count", "user_count", "title", "threshold", "encoder", "precision", "device", "user_fields", "degraded")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORER_FIELD_NUMBER: _ClassVar[int]
    ITEM_COUNT_FIELD_NUMBER: _ClassVar[int]
    USER_COUNT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELDS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    format_version: int
    space: str
    model: str
    scorer: str
    item_count: int
    user_count: int
    title: str
    threshold: float
    encoder: str
    precision: str
    device: str
    user_fields: _containers.RepeatedCompositeFieldContainer[FieldInfo]
    degraded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., format_version: _Optional[int] = ..., space: _Optional[str] = ..., model: _Optional[str] = ..., scorer: _Optional[str] = ..., item_count: _Optional[int] = ..., user_count: _Optional[int] = ..., title: _Optional[str] = ..., threshold: _Optional[float] = ..., encoder: _Optional[str] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., user_fields: _Optional[_Iterable[_Union[FieldInfo, _Mapping]]] = ..., degraded: _Optional[_Iterable[str]] = ...) -> None: ...

class FieldInfo(_message.Message):
    __slots__ = ("name", "kind")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ...) -> None: ...

class ServedBy(_message.Message):
    __slots__ = ("bundle_name", "bundle_version", "device")
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    bundle_name: str
    bundle_version: str
    device: str
    def __init__(self, bundle_name: _Optional[str] = ..., bundle_version: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize_ms", "encode_ms", "user_graph_ms", "scan_ms", "total_ms", "queue_ms")
    TOKENIZE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    USER_GRAPH_MS_FIELD_NUMBER: _ClassVar[int]
    SCAN_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    tokenize_ms: float
    encode_ms: float
    user_graph_ms: float
    scan_ms: float
    total_ms: float
    queue_ms: float
    def __init__(self, tokenize_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., user_graph_ms: _Optional[float] = ..., scan_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ...) -> None: ...
