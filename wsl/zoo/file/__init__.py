"""The file itself: its format, how its bytes are read and checked, how it is created."""

from wsl.zoo.file.chunks import ChunkedRows, Chunks
from wsl.zoo.file.columns import MAX_TEXT, RESERVED, column, complete, decode, kind_of
from wsl.zoo.file.create import Block, chunk_rows, create, row_checksums
from wsl.zoo.file.error import ZooError
from wsl.zoo.file.format import SPLITS, Header, from_json, read_spec, to_json
from wsl.zoo.file.layout import RowLayout
from wsl.zoo.file.mapping import MappedRows
from wsl.zoo.file.pread import PreadRows
from wsl.zoo.file.reader import Contents, read
from wsl.zoo.file.storage import STORED, TORCH, carried, storage_name, to_stored

__all__ = [
    "MAX_TEXT",
    "RESERVED",
    "SPLITS",
    "STORED",
    "TORCH",
    "Block",
    "ChunkedRows",
    "Chunks",
    "Contents",
    "Header",
    "MappedRows",
    "PreadRows",
    "RowLayout",
    "ZooError",
    "carried",
    "chunk_rows",
    "column",
    "complete",
    "create",
    "decode",
    "from_json",
    "kind_of",
    "read",
    "read_spec",
    "row_checksums",
    "storage_name",
    "to_json",
    "to_stored",
]
