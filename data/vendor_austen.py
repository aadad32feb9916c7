#!/usr/bin/env python3
"""Make data/austen/*.txt.gz from Debian's package r-cran-janeaustenr, without R.

    apt-get download r-cran-janeaustenr
    python3 data/vendor_austen.py r-cran-janeaustenr_1.0.0-1_all.deb

Needs dpkg-deb and GNU gzip. The texts are checked against the sums in data/README.md before anything is written, and `gzip -n` leaves out
name and time, so the same gzip (1.12 was used) gives the same files.

The package keeps each novel as one R character vector, a string per line, in Rdata.rdb: six chunks end to end, each a big-endian u32 (length
when inflated) and a zlib stream. In R's serialization a string is a CHARSXP: a flag word that ends in type 9, an i32 length, the bytes.
"""

import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
RDB = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
CHARSXP = 9


def chunks(rdb):
    """The inflated chunks of an R lazy-load database."""
    at = 0
    while at < len(rdb):
        (length,) = struct.unpack_from(">I", rdb, at)
        inflate = zlib.decompressobj()
        text = inflate.decompress(rdb[at + 4 :])
        assert inflate.eof and len(text) == length, "not the layout that this script knows"
        yield text
        at = len(rdb) - len(inflate.unused_data)


def lines(vector):
    """The strings of one serialized character vector, in order."""
    # 'X\n', format version, writer's and oldest reader's version; from version 3 on the name of the encoding follows.
    assert vector[:2] == b"X\n"
    (version,) = struct.unpack_from(">i", vector, 2)
    at = 14
    if version >= 3:
        (length,) = struct.unpack_from(">i", vector, at)
        at += 4 + length
    flags, count = struct.unpack_from(">Ii", vector, at)
    assert flags & 0xFF == 16, "not a character vector"
    at += 8
    for _ in range(count):
        flags, length = struct.unpack_from(">Ii", vector, at)
        assert flags & 0xFF == CHARSXP
        at += 8
        yield vector[at : at + length]
        at += length


def expected():
    """File name by SHA-256 of the text, from the table in README.md."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    return {digest: name for name, digest in re.findall(r"`(\w+\.txt)\.gz`.*`([0-9a-f]{64})`", readme)}


def main(deb):
    names = expected()
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "-x", deb, unpacked], check=True)
        rdb = (pathlib.Path(unpacked) / RDB).read_bytes()
    texts = {}
    for chunk in chunks(rdb):
        text = b"\n".join(lines(chunk)) + b"\n"
        digest = hashlib.sha256(text).hexdigest()
        if digest not in names:
            sys.exit(f"a text of {len(text)} bytes has the unknown sum {digest}: nothing was written")
        texts[names[digest]] = text
    missing = set(names.values()) - set(texts)
    if missing:
        sys.exit(f"not in the package: {sorted(missing)}: nothing was written")
    for name, text in sorted(texts.items()):
        packed = subprocess.run(["gzip", "-9", "-n", "-c"], input=text, stdout=subprocess.PIPE, check=True).stdout
        (HERE / "austen" / f"{name}.gz").write_bytes(packed)
        print(f"{name}.gz  {len(text)} -> {len(packed)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
