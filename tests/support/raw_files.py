"""Camera RAW files of the kinds that are no TIFFs, around a JPEG; their sensors have `SENSOR` pixels."""

import struct

SENSOR = 400, 300


def raf(jpeg: bytes) -> bytes:
    facts = struct.pack(">I", 1) + struct.pack(">HHHH", 0x100, 4, *reversed(SENSOR))
    head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 200, len(jpeg)) + struct.pack(">II", 100, 16)
    return (head + facts).ljust(200, b"\0") + jpeg + bytes(99)


def rw2(jpeg: bytes) -> bytes:
    entries = ((2, 3, 1, SENSOR[1]), (3, 3, 1, SENSOR[0]), (0x2E, 7, len(jpeg), 100), (274, 3, 1, 6))
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"IIU\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)).ljust(100, b"\0") + jpeg


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def cr3(jpeg: bytes) -> bytes:
    orientation = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, 3, 1, 6, 0) + bytes(4)

    def movie(start: int) -> bytes:
        described = bytes(8) + struct.pack(">I4s", 99, b"CRAW") + bytes(24) + struct.pack(">HH", *SENSOR) + bytes(8)
        table = box(b"stsd", described) + box(b"stsz", bytes(4) + struct.pack(">II", len(jpeg), 1))
        table += box(b"co64", bytes(4) + struct.pack(">IQ", 1, start))
        track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table))))
        return box(b"ftyp", b"crx \0\0\0\1crx isom") + box(
            b"moov", box(b"uuid", bytes(16) + box(b"CMT1", orientation)) + track
        )

    head = movie(0)
    return movie(len(head) + 8) + box(b"mdat", jpeg)
