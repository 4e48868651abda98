"""Whatever comes over the wire, the server says what is wrong with it and goes on."""

import math
import random
import socket
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from fuserank.engine.engine import load
from fuserank.server.client.client import Client
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode
N_PAYLOADS = 10_000
# What a caller may be told. Not INTERNAL, nor UNKNOWN, which is what gRPC makes of an exception.
BLAMELESS = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED,
    Code.CANCELLED,  # by this test, of a stream that does not end by itself
}
REFUSED = {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED}
TEXTS = ["", "u1", "i3", "user_id", "age", "history", "title", "year", "tiny", "\0", "é" * 300]
NUMBERS = [0, 1, -1, 3, 0.5, 2**31 - 1, -(2**31), 1e308, math.nan, math.inf, -math.inf]


@pytest.fixture
def serve_bundle(start_server, on_loop, tiny_bundle):
    def start(**options):
        server, address = start_server(**options)
        on_loop(server.load(lambda: load(tiny_bundle.path)))
        return address

    return start


def methods_of(address):
    """Return all methods that reflection tells of."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        return [
            method
            for name in database.get_services()
            for method in pool.FindServiceByName(name).methods
        ]


def random_message(rng, descriptor, depth=0):
    """Return a message of which each field is set or not, to values that mean something or not."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if rng.random() < 0.4 or (depth > 6 and field.message_type):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            _fill_map(rng, message, field, depth)
        elif field.is_repeated:
            values = [_value(rng, field, depth) for _ in range(rng.choice([0, 1, 2, 20]))]
            getattr(message, field.name).extend(values)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(_value(rng, field, depth))
        else:
            setattr(message, field.name, _value(rng, field, depth))
    return message


def _fill_map(rng, message, field, depth):
    key, value = (
        field.message_type.fields_by_name["key"],
        field.message_type.fields_by_name["value"],
    )
    for _ in range(rng.randrange(4)):
        entry = getattr(message, field.name)
        if value.message_type:
            entry[_value(rng, key, depth)].CopyFrom(_value(rng, value, depth))
        else:
            entry[_value(rng, key, depth)] = _value(rng, value, depth)


def _value(rng, field, depth):
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return random_message(rng, field.message_type, depth + 1)
        case FieldDescriptor.CPPTYPE_STRING:
            text = rng.choice(TEXTS)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return rng.choice(NUMBERS)
        case FieldDescriptor.CPPTYPE_FLOAT:
            return struct.unpack("f", rng.randbytes(4))[0] if rng.random() < 0.3 else 0.5
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice([-(2**31), -1, 0, 1, 2, 10, 2**31 - 1])
        case FieldDescriptor.CPPTYPE_INT64:
            return rng.choice([-(2**63), 0, 5, 2**63 - 1])
        case _:
            return rng.choice([0, 1, 2**32 - 1])


def payload(rng, method):
    """Return bytes: noise, a message, or a message that was damaged."""
    if rng.random() < 0.25:
        return rng.randbytes(rng.choice([0, 1, 7, 100, 2000]))
    sent = bytearray(random_message(rng, method.input_type).SerializeToString())
    damage = rng.randrange(5)
    if damage == 0:
        return bytes(sent[: rng.randrange(len(sent) + 1)])
    if damage == 1:
        for _ in range(3):
            if sent:
                sent[rng.randrange(len(sent))] ^= 1 << rng.randrange(8)
    if damage == 2:
        at = rng.randrange(len(sent) + 1)
        sent[at:at] = rng.randbytes(rng.randrange(20))
    return bytes(sent)


def send(channel, method, payloads, **options):
    """Make one call of a method with bytes as they are; return its status and message."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    kind = (
        f"{'stream' if method.client_streaming else 'unary'}_"
        f"{'stream' if method.server_streaming else 'unary'}"
    )
    sent = iter(payloads) if method.client_streaming else payloads[0]
    try:
        call = getattr(channel, kind)(name)(sent, timeout=20, **options)
        for reply in call if method.server_streaming else ():
            if method.name == "RecommendStream":
                error = pb.RecommendStreamResponse.FromString(reply).error
                assert error.code not in {Code.INTERNAL.value[0], Code.UNKNOWN.value[0]}, error
            elif not method.client_streaming:
                call.cancel()  # a watch has no end
    except grpc.RpcError as error:
        return error.code(), error.details()
    return Code.OK, ""


def send_all(address, n_payloads):
    """Send payloads to all methods in turn; return how often each status came back."""
    rng, methods, found = random.Random(6), methods_of(address), Counter()
    calls, n_sent = [], 0
    while n_sent < n_payloads:
        method = rng.choice(methods)
        payloads = [payload(rng, method) for _ in range(rng.choice([1, 1, 2, 3]))]
        n_sent += len(payloads) if method.client_streaming else 1
        calls.append((method, payloads))
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(16) as pool:
        statuses = pool.map(lambda call: send(channel, *call), calls)
        for (method, payloads), (code, details) in zip(calls, statuses, strict=True):
            assert code in BLAMELESS, (method.full_name, code, details, payloads)
            found[method.name, code] += 1
    return found


def good(address):
    with Client(address) as client:
        return client.recommend({"user_id": "u1"}, 3).item_ids


def test_ten_thousand_payloads_do_no_harm(serve_bundle, caplog):
    address = serve_bundle()
    found = send_all(address, N_PAYLOADS)
    assert good(address)
    names = {name for name, _ in found}
    assert all(any(found[name, code] for code in REFUSED) for name in names)
    assert {("Recommend", Code.OK), ("GetBundleInfo", Code.OK), ("Check", Code.OK)} <= set(found)
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("method", ["Recommend", "RecommendStream", "UpsertItems"])
def test_what_is_no_message_is_an_invalid_argument(serve_bundle, method):
    address = serve_bundle()
    name = f"/fuserank.v1.RecommenderService/{method}"
    (described,) = [one for one in methods_of(address) if one.name == method]
    with grpc.insecure_channel(address) as channel:
        code, message = send(channel, described, [b"\xff\xff"])
    if code is Code.UNIMPLEMENTED:
        pytest.skip("not served")
    assert code is Code.INVALID_ARGUMENT
    assert name in message


def test_what_is_nested_too_deep_is_no_message(serve_bundle):
    """Parsing recurses, so that what is deeper than protobuf allows must be refused by it."""
    address = serve_bundle()
    groups = b"\x0b" * 60_000  # of which each begins a group in the one before
    lists = b""
    while len(lists) < 60_000:  # google.protobuf.Value.list_value of ListValue.values of ...
        lists = b"\x32" + _sized(b"\x0a" + _sized(lists))
    attributes = b"\x0a" + _sized(b"\x0a\x01a\x12" + _sized(lists))
    items = b"\x0a" + _sized(b"\x12" + _sized(attributes))
    methods = {method.name: method for method in methods_of(address)}
    with grpc.insecure_channel(address) as channel:
        for name, method in methods.items():
            assert send(channel, method, [groups])[0] in REFUSED, name
        assert send(channel, methods["UpsertItems"], [items])[0] in REFUSED
    with pytest.raises(DecodeError):
        pb.UpsertItemsRequest.FromString(items)
    assert good(address)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_an_oversized_message_is_refused_however_small_it_travels(serve_bundle, compression):
    address = serve_bundle(max_message_bytes=64 * 1024)
    texts = pb.EncodeRequest(texts=["a" * 15_000] * 100).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        for method in methods_of(address):
            code, _ = send(channel, method, [texts], compression=compression)
            expected = {Code.RESOURCE_EXHAUSTED}
            if method.client_streaming:  # which may be turned away before it is read
                expected.add(Code.UNIMPLEMENTED)
            assert code in expected, method.full_name
    assert good(address)


def test_noise_instead_of_http2_ends_that_connection_alone(serve_bundle):
    address, rng = serve_bundle(), random.Random(6)
    host, port = address.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with Client(address) as client:
        client.recommend({"user_id": "u1"}, 3)
        for number in range(60):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall((preface if number % 2 else b"") + rng.randbytes(400))
                connection.shutdown(socket.SHUT_WR)
                try:
                    while connection.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        assert client.recommend({"user_id": "u1"}, 3).item_ids


def _sized(content):
    """Return bytes with their length before them."""
    length, found = len(content), bytearray()
    while length > 0x7F:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(found) + bytes([length]) + content
