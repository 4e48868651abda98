import socket

import pytest

from fuserank.errors import ServerError
from fuserank.server.workers.port import reserved_port

HOST = "127.0.0.1"


def listener(port, *, shared):
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        found.bind((HOST, port))
        found.listen()
    except OSError:
        found.close()
        raise
    return found


def test_those_who_share_it_listen_and_nobody_else_does():
    with reserved_port(HOST, 0) as port:
        with (
            listener(port, shared=True),
            listener(port, shared=True),
            pytest.raises(OSError, match="in use"),
        ):
            listener(port, shared=False)
        with pytest.raises(OSError, match="in use"):  # nor between their ends and their restarts
            listener(port, shared=False)


def test_every_connection_goes_to_one_who_accepts():
    with reserved_port(HOST, 0) as port, listener(port, shared=True) as only:
        for _ in range(20):  # were the reservation itself listening, it would get some of these
            with socket.create_connection((HOST, port), 5):
                accepted, _ = only.accept()
                accepted.close()


def test_nobody_listens_before_a_worker_does():
    with reserved_port(HOST, 0) as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), 5)


@pytest.mark.parametrize("shared", [False, True])
def test_a_foreign_listener_is_found(shared):
    with listener(0, shared=shared) as foreign:
        port = foreign.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} is in use"), reserved_port(HOST, port):
            pass


def test_a_second_reservation_is_refused_before_anyone_listens():
    with (
        reserved_port(HOST, 0) as port,
        pytest.raises(ServerError, match="in use"),
        reserved_port(HOST, port),
    ):
        pass


def test_it_is_free_afterwards_though_connections_linger():
    with reserved_port(HOST, 0) as port, listener(port, shared=True) as only:
        client = socket.create_connection((HOST, port), 5)
        accepted, _ = only.accept()
        accepted.close()  # closed by the server first, which is what leaves a connection behind
        client.close()
    with reserved_port(HOST, port) as again:
        assert again == port


def test_a_name_with_several_addresses_is_kept_on_all_of_them():
    with reserved_port("localhost", 0) as port, pytest.raises(OSError, match="in use"):
        listener(port, shared=False)


def test_an_address_of_another_machine_is_named():
    with pytest.raises(ServerError, match=r"192\.0\.2\.1"), reserved_port("192.0.2.1", 0):
        pass
