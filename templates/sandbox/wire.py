"""Frames that no agent of a sandbox can send, sent by root on the sandbox's own wire, and ears where none may arrive.

``wire.py send DEVICE`` sends what standard input has, a frame in hexadecimal digits a line. ``wire.py listen DEVICE``
writes ``ready``, then each frame that it hears until its standard input ends. Both run in the network that they are
started in.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from typing import NamedTuple

IP, ARP, IP6, VLAN, UNKNOWN = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88B5
TCP, UDP, GRE, SCTP, ICMP6 = 6, 17, 47, 132, 58
ALL = "ff:ff:ff:ff:ff:ff"
#: Bytes of a frame that can lie behind its content and are not read: a mark fits into them (IEEE 802.3: 60 at least).
LEAST = 60


class Ends(NamedTuple):
    """Who is on the wire: the sandbox, another one and the gateway, by hardware and IPv4; the host's other address."""

    hardware: str
    address: str
    other_hardware: str
    other_address: str
    gateway_hardware: str
    gateway: str
    port: int
    host: str


def frame_of(kind: str, ends: Ends, mark: bytes) -> bytes:
    """Give a frame of a kind with a mark in it."""
    return _KINDS[kind](ends, mark).ljust(LEAST, b"\0")


def mac(text: str) -> bytes:
    """Give a hardware address's six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def ethernet(to: str, source: str, kind: int, content: bytes) -> bytes:
    """Give a frame."""
    return mac(to) + mac(source) + struct.pack("!H", kind) + content


def packet(source: str, to: str, protocol: int, content: bytes) -> bytes:
    """Give an IPv4 packet (RFC 791)."""
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 7, 0, 64, protocol, 0) + ends
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + content


def _sum(head: bytes) -> int:
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def segment(port: int, mark: bytes) -> bytes:
    """Give a TCP segment that asks for a connection, with a mark as its data (RFC 9293)."""
    return struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, 0x02, 1024, 0, 0) + mark


def datagram(port: int, mark: bytes) -> bytes:
    """Give a UDP datagram, without a sum (RFC 768)."""
    return struct.pack("!HHHH", 40000, port, 8 + len(mark), 0) + mark


def arp(operation: int, hardware: str, sender: str, target: str, mark: bytes) -> bytes:
    """Give an ARP message with a mark behind it (RFC 826)."""
    head = struct.pack("!HHBBH", 1, IP, 6, 4, operation) + mac(hardware) + socket.inet_aton(sender)
    return head + bytes(6) + socket.inet_aton(target) + mark


def packet6(to: str, protocol: int, content: bytes) -> bytes:
    """Give an IPv6 packet from a link's own address (RFC 8200)."""
    ends = socket.inet_pton(socket.AF_INET6, "fe80::6167") + socket.inet_pton(socket.AF_INET6, to)
    return struct.pack("!IHBB", 6 << 28, len(content), protocol, 255) + ends + content


def _tcp(ends: Ends, mark: bytes, **other: str) -> bytes:
    hardware, source = other.get("hardware", ends.hardware), other.get("source", ends.address)
    content = packet(source, other.get("to", ends.gateway), TCP, segment(ends.port, mark))
    return ethernet(ends.gateway_hardware, hardware, IP, content)


def _udp(ends: Ends, mark: bytes, to: str, port: int, hardware: str = "") -> bytes:
    content = packet(ends.address, to, UDP, datagram(port, mark))
    return ethernet(hardware or ends.gateway_hardware, ends.hardware, IP, content)


def _plain(ends: Ends, mark: bytes, protocol: int, content: bytes) -> bytes:
    inner = packet(ends.address, ends.gateway, protocol, content + mark)
    return ethernet(ends.gateway_hardware, ends.hardware, IP, inner)


_KINDS = {
    "allowed": lambda e, m: ethernet(ALL, e.hardware, ARP, arp(1, e.hardware, e.address, e.gateway, m)),
    "from_gateway": lambda e, m: ethernet(
        e.other_hardware, e.gateway_hardware, ARP, arp(1, e.gateway_hardware, e.gateway, e.other_address, m)
    ),
    "other_hardware": lambda e, m: _tcp(e, m, hardware="02:61:67:72:01:ff"),
    "other_address": lambda e, m: _tcp(e, m, source=e.other_address),
    "arp_as_other": lambda e, m: ethernet(ALL, e.hardware, ARP, arp(2, e.hardware, e.other_address, e.gateway, m)),
    "arp_as_gateway": lambda e, m: ethernet(ALL, e.hardware, ARP, arp(2, e.hardware, e.gateway, e.gateway, m)),
    "arp_for_other": lambda e, m: ethernet(ALL, e.hardware, ARP, arp(1, e.hardware, e.address, e.other_address, m)),
    "to_other": lambda e, m: ethernet(e.other_hardware, e.hardware, UNKNOWN, m),
    "to_all": lambda e, m: _udp(e, m, e.gateway.rpartition(".")[0] + ".255", 9, ALL),
    "to_host": lambda e, m: _tcp(e, m, to=e.host),
    "to_internet": lambda e, m: _udp(e, m, "192.0.2.1", 53),
    "to_loopback": lambda e, m: _tcp(e, m, to="127.0.0.1"),
    "multicast": lambda e, m: _udp(e, m, "224.0.0.251", 5353, "01:00:5e:00:00:fb"),
    "dhcp": lambda e, m: _udp(e, m, "255.255.255.255", 67, ALL),
    "ipv6": lambda e, m: ethernet("33:33:00:00:00:01", e.hardware, IP6, packet6("ff02::1", UDP, datagram(9, m))),
    "router": lambda e, m: ethernet(
        "33:33:00:00:00:01", e.hardware, IP6, packet6("ff02::1", ICMP6, struct.pack("!BBHI8x", 134, 0, 0, 0) + m)
    ),
    "vlan": lambda e, m: ethernet(
        e.gateway_hardware, e.hardware, VLAN, struct.pack("!HH", 7, IP) + _tcp(e, m)[14:]
    ),
    "unknown": lambda e, m: ethernet(e.gateway_hardware, e.hardware, UNKNOWN, m),
    "stp": lambda e, m: ethernet("01:80:c2:00:00:00", e.hardware, UNKNOWN, m),
    "gre": lambda e, m: _plain(e, m, GRE, struct.pack("!HH", 0, IP)),
    "sctp": lambda e, m: _plain(e, m, SCTP, struct.pack("!HHII", 40000, e.port, 0, 0)),
}  # fmt: skip


def send(device: str, frames: list[bytes]) -> None:
    """Send frames as they are."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one:
        one.bind((device, 0))
        for frame in frames:
            one.send(frame)


def listen(device: str) -> None:
    """Write down what arrives at a device, until standard input ends."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as one:
        one.bind((device, 3))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            heard = select.select([one, sys.stdin], [], [])[0]
            if one in heard:
                frame, about = one.recvfrom(65536)
                if about[2] != socket.PACKET_OUTGOING:
                    sys.stdout.write(frame.hex() + "\n")
            elif heard:
                return


def main() -> int:
    """Send or listen."""
    if sys.argv[1] == "send":
        send(sys.argv[2], [bytes.fromhex(line) for line in sys.stdin.read().split()])
    else:
        listen(sys.argv[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
