"""The types of the native module. Its docstrings are in the Rust sources, and in `help()`."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar, final, overload

from typing_extensions import Self, disjoint_base

from mmapcache._types import (
    BackupReport,
    BytesLike,
    CacheSettings,
    CacheStats,
    Compute,
    DiskUsage,
    Durability,
    Eviction,
    Moment,
    Name,
    Path,
    Recovery,
    RepairReport,
    Seconds,
    Stats,
    VerifyReport,
)

_T = TypeVar("_T")
_Item = TypeVar("_Item", covariant=True)

__all__ = [
    "KEEP",
    "UNSET",
    "Cache",
    "CacheEntry",
    "CacheWriter",
    "Entry",
    "Labels",
    "Listing",
    "MmapCache",
    "Sentinel",
    "Store",
    "Writer",
    "repair",
    "upgrade",
]

KEEP: Sentinel
UNSET: Sentinel

@final
class Sentinel: ...

@final
class Listing(Iterator[_Item], Generic[_Item]):
    def __iter__(self) -> Self: ...
    def __next__(self) -> _Item: ...

@final
class Entry:
    @property
    def value(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class MmapCache:
    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        create_new: bool = False,
        allow_network_fs: bool = False,
        append_only: bool | None = None,
        durability: Durability = "none",
        capacity: int | None = None,
        max_entries: int | None = None,
        max_segment_bytes: int | None = None,
        compaction_threshold: tuple[int, int] | None = None,
        lock_timeout: Seconds | None = None,
        file_mode: int | None = None,
        heap_path: Path | None = None,
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def _arguments(self) -> tuple[str, dict[str, Any]]: ...
    @overload
    def get(self, key: BytesLike, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: BytesLike, default: _T) -> bytes | _T: ...
    def __getitem__(self, key: BytesLike, /) -> bytes: ...
    def __setitem__(self, key: BytesLike, value: BytesLike, /) -> None: ...
    def __delitem__(self, key: BytesLike, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Listing[bytes]: ...
    def _values(self) -> Listing[bytes]: ...
    def _items(self) -> Listing[tuple[bytes, bytes]]: ...
    def entries(self) -> Listing[tuple[bytes, Entry]]: ...
    def put(self, key: BytesLike, value: BytesLike) -> int: ...
    def entry(self, key: BytesLike) -> Entry | None: ...
    def version(self, key: BytesLike) -> int | None: ...
    def insert_if_absent(self, key: BytesLike, value: BytesLike) -> int | None: ...
    def put_if(self, key: BytesLike, value: BytesLike, version: int) -> int | None: ...
    def delete(self, key: BytesLike) -> bool: ...
    def delete_if(self, key: BytesLike, version: int) -> bool: ...
    def update_with(
        self, key: BytesLike, function: Callable[[Entry | None], BytesLike | Sentinel | None]
    ) -> bool: ...
    @overload
    def pop(self, key: BytesLike, /) -> bytes: ...
    @overload
    def pop(self, key: BytesLike, default: _T, /) -> bytes | _T: ...
    def setdefault(self, key: BytesLike, default: BytesLike) -> bytes: ...
    def _put_many(self, pairs: Iterable[tuple[BytesLike, BytesLike]]) -> None: ...
    def get_many(self, keys: Iterable[BytesLike]) -> list[bytes | None]: ...
    def random_key(self) -> bytes | None: ...
    def atomic_rebuild(self, pairs: Iterable[tuple[BytesLike, BytesLike]]) -> None: ...
    def clear(self) -> None: ...
    def compact(self) -> None: ...
    def flush(self) -> None: ...
    def change_count(self) -> int: ...
    def stats(self) -> Stats: ...
    def disk_usage(self) -> DiskUsage: ...
    def backup(self, path: Path) -> BackupReport: ...
    def verify(self) -> VerifyReport: ...
    @property
    def last_recovery(self) -> Recovery | None: ...
    def writer(self) -> Writer: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Writer:
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def put(self, key: BytesLike, value: BytesLike) -> int: ...
    def delete(self, key: BytesLike) -> bool: ...
    def entry(self, key: BytesLike) -> Entry | None: ...
    def insert_if_absent(self, key: BytesLike, value: BytesLike) -> int | None: ...
    def put_if(self, key: BytesLike, value: BytesLike, version: int) -> int | None: ...
    def delete_if(self, key: BytesLike, version: int) -> bool: ...

@final
class CacheEntry:
    @property
    def value(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def expires_at(self) -> float | None: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def age(self) -> float: ...
    @property
    def cost(self) -> float | None: ...
    @property
    def stale_for(self) -> float | None: ...
    @property
    def is_stale(self) -> bool: ...
    @property
    def is_negative(self) -> bool: ...
    @property
    def is_expired(self) -> bool: ...
    def has_tag(self, tag: Name) -> bool: ...
    def has_namespace(self, namespace: Name) -> bool: ...

@disjoint_base
class Cache:
    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | Sentinel | None = ...,
        max_entries: int | Sentinel | None = ...,
        time_to_live: Seconds | Sentinel | None = ...,
        time_to_idle: Seconds | Sentinel | None = ...,
        jitter: float | Sentinel | None = ...,
        stale_while_revalidate: Seconds | Sentinel | None = ...,
        stale_if_error: Seconds | Sentinel | None = ...,
        eviction: Eviction | Sentinel = ...,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        create_new: bool = False,
        allow_network_fs: bool = False,
        durability: Durability = "none",
        capacity: int | None = None,
        max_segment_bytes: int | None = None,
        compaction_threshold: tuple[int, int] | None = None,
        lock_timeout: Seconds | None = None,
        file_mode: int | None = None,
        heap_path: Path | None = None,
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def _arguments(self) -> tuple[str, dict[str, Any]]: ...
    @overload
    def get(self, key: BytesLike, default: None = None) -> bytes | None: ...
    @overload
    def get(self, key: BytesLike, default: _T) -> bytes | _T: ...
    def __getitem__(self, key: BytesLike, /) -> bytes: ...
    def __setitem__(self, key: BytesLike, value: BytesLike, /) -> None: ...
    def __delitem__(self, key: BytesLike, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __iter__(self) -> Listing[bytes]: ...
    def _values(self) -> Listing[bytes]: ...
    def _items(self) -> Listing[tuple[bytes, bytes]]: ...
    def entries(self) -> Listing[tuple[bytes, CacheEntry]]: ...
    def get_many(self, keys: Iterable[BytesLike]) -> list[bytes | None]: ...
    def entry(self, key: BytesLike) -> CacheEntry | None: ...
    @overload
    def peek(self, key: BytesLike, default: None = None) -> bytes | None: ...
    @overload
    def peek(self, key: BytesLike, default: _T) -> bytes | _T: ...
    def peek_entry(self, key: BytesLike) -> CacheEntry | None: ...
    def stored_entry(self, key: BytesLike) -> CacheEntry | None: ...
    def insert(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int: ...
    def add(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def replace(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def insert_if(
        self,
        key: BytesLike,
        value: BytesLike,
        version: int,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def update_with(
        self,
        key: BytesLike,
        function: Callable[[CacheEntry | None], BytesLike | Sentinel | None],
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def swap(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> bytes | None: ...
    def insert_many(
        self,
        pairs: Iterable[tuple[BytesLike, BytesLike]],
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> None: ...
    def insert_absent(self, key: BytesLike, ttl: Seconds) -> int: ...
    @overload
    def get_or_insert_with(
        self,
        key: BytesLike,
        function: Compute,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
        patience: Seconds | None = None,
        early: float | None = None,
        stale_on_error: Seconds | None = None,
        absent_for: None = None,
        renew: Seconds | None = None,
    ) -> bytes: ...
    @overload
    def get_or_insert_with(
        self,
        key: BytesLike,
        function: Callable[[], BytesLike | None],
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
        patience: Seconds | None = None,
        early: float | None = None,
        stale_on_error: Seconds | None = None,
        absent_for: Seconds,
        renew: Seconds | None = None,
    ) -> bytes | None: ...
    def remove(self, key: BytesLike) -> bool: ...
    def remove_if(self, key: BytesLike, version: int) -> bool: ...
    def remove_many(self, keys: Iterable[BytesLike]) -> int: ...
    def take(self, key: BytesLike) -> bytes | None: ...
    @overload
    def pop(self, key: BytesLike, /) -> bytes: ...
    @overload
    def pop(self, key: BytesLike, default: _T, /) -> bytes | _T: ...
    def increment(
        self,
        key: BytesLike,
        by: int = 1,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int: ...
    def touch(self, key: BytesLike, ttl: Seconds) -> bool: ...
    def persist(self, key: BytesLike) -> bool: ...
    def get_and_renew(self, key: BytesLike, ttl: Seconds) -> bytes | None: ...
    def invalidate_tag(self, tag: Name) -> None: ...
    def invalidate_namespace(self, namespace: Name) -> None: ...
    def sweep(self) -> int: ...
    def sweep_some(self, slots: int) -> int: ...
    def evict_to(self, bytes: int) -> int: ...
    def clear(self) -> None: ...
    def flush(self) -> None: ...
    def len_with_expired(self) -> int: ...
    def last_version(self) -> int: ...
    def stats(self) -> CacheStats: ...
    def settings(self) -> CacheSettings: ...
    def disk_usage(self) -> DiskUsage: ...
    def backup(self, path: Path) -> BackupReport: ...
    def verify(self) -> VerifyReport: ...
    def writer(self) -> CacheWriter: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class CacheWriter:
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...
    def insert(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int: ...
    def entry(self, key: BytesLike) -> CacheEntry | None: ...
    def add(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def replace(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def insert_if(
        self,
        key: BytesLike,
        value: BytesLike,
        version: int,
        *,
        ttl: Seconds | None = None,
        expires_at: Moment | None = None,
        no_expiry: bool = False,
        tag: Name | None = None,
        namespace: Name | None = None,
        cost: Seconds | None = None,
        stale_for: Seconds | None = None,
    ) -> int | None: ...
    def insert_absent(self, key: BytesLike, ttl: Seconds) -> int: ...
    def remove(self, key: BytesLike) -> bool: ...
    def remove_if(self, key: BytesLike, version: int) -> bool: ...

@disjoint_base
class Labels:
    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        exclusive: bool = False,
        create: bool = True,
        create_new: bool = False,
        allow_network_fs: bool = False,
        append_only: bool | None = None,
        durability: Durability = "none",
        capacity: int | None = None,
        max_entries: int | None = None,
        max_segment_bytes: int | None = None,
        compaction_threshold: tuple[int, int] | None = None,
        lock_timeout: Seconds | None = None,
        file_mode: int | None = None,
        heap_path: Path | None = None,
    ) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def _arguments(self) -> tuple[str, dict[str, Any]]: ...
    def get_or_intern(self, label: Name) -> int: ...
    def get_or_intern_many(self, labels: Iterable[Name]) -> list[int]: ...
    def get(self, label: Name) -> int | None: ...
    def resolve(self, id: int) -> bytes | None: ...
    def resolve_str(self, id: int) -> str | None: ...
    def __contains__(self, label: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Listing[tuple[int, bytes]]: ...
    def flush(self) -> None: ...
    def disk_usage(self) -> DiskUsage: ...
    def backup(self, path: Path) -> BackupReport: ...
    def verify(self) -> VerifyReport: ...
    @property
    def last_recovery(self) -> Recovery | None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exception_type: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@disjoint_base
class Store:
    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def get(
        self,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    def set(
        self,
        key: Any,
        value: Any,
        expire: Seconds | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool: ...
    def add(
        self,
        key: Any,
        value: Any,
        expire: Seconds | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> bool: ...
    def incr(self, key: Any, delta: Any = 1, default: Any = ..., retry: bool = False) -> Any: ...
    def touch(self, key: Any, expire: Seconds | None = None, retry: bool = False) -> bool: ...
    def pop(
        self,
        key: Any,
        default: Any = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    def delete(self, key: Any, retry: bool = False) -> bool: ...
    def push(
        self,
        value: Any,
        prefix: str | None = None,
        side: str = "back",
        expire: Seconds | None = None,
        read: bool = False,
        tag: Any = None,
        retry: bool = False,
    ) -> Any: ...
    def pull(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    def peek(
        self,
        prefix: str | None = None,
        default: Any = (None, None),
        side: str = "front",
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    def peekitem(
        self,
        last: bool = True,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any: ...
    def evict(self, tag: Any, retry: bool = False) -> int: ...
    def volume(self) -> int: ...
    def close(self) -> None: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __setitem__(self, key: Any, value: Any, /) -> None: ...
    def __delitem__(self, key: Any, /) -> None: ...
    def __contains__(self, key: Any, /) -> bool: ...
    def __len__(self) -> int: ...
    def _open(self, directory: str, timeout: float) -> None: ...
    def _use(self, functions: Any) -> None: ...
    def _configure(
        self,
        *,
        statistics: bool,
        parks: bool,
        ordered: bool,
        queue: bool,
        file_bytes: int,
        max_bytes: int | None,
        fifo: bool,
    ) -> None: ...
    def _load_settings(self) -> bytes | None: ...
    def _store_settings(self, settings: bytes) -> None: ...
    def _popitem(self, last: bool = True) -> Any: ...
    def _keys(self) -> list[Any]: ...
    def _queue_numbers(self) -> tuple[int, int] | None: ...
    def _shard(self, key: Any, count: int) -> int: ...
    def _begin(self, retry: bool) -> None: ...
    def _end(self, commits: bool) -> None: ...
    def _clear(self) -> int: ...
    def _evict_to(self, bytes: int, fifo: bool) -> int: ...
    def _expire(self, now: float, retry: bool) -> int: ...
    def _statistics(self, reset: bool) -> tuple[int, int]: ...
    def _check(self, repairs: bool) -> list[str]: ...

def repair(
    path: Path,
    *,
    keep_damaged: bool = False,
    rewrite_heap: bool = False,
    heap_path: Path | None = None,
    lock_timeout: Seconds | None = None,
) -> RepairReport: ...
def upgrade(
    path: Path, *, heap_path: Path | None = None, lock_timeout: Seconds | None = None
) -> RepairReport | None: ...
